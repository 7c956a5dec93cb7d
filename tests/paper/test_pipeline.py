"""Rows 53 to 57 and 59 of the fault list, with small notebooks through the real runner."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from fusionlib.errors import FusionError, NotebookError
from fusionlib.files import REPOSITORY
from paper import pipeline
from paper.pipeline import CLOSING_LINE, find_notebooks, run_paper

DECLARED = """\
preset = "quick"  # quick, cpu or paper; a second = in a line is fine
data_root = None
encoder = "embedded"
weights = None
out_dir = "runs/quick"
device = "cpu"
seed = 0
"""
OUTPUTS = Path("runs/quick/notebooks")


def write_notebook(root, stem, *cells, closing=True, kernel=None):
    """Writes title, parameters, the cells (markdown where they begin with #) and the closing."""
    new = nbformat.v4
    node = new.new_notebook(cells=[new.new_markdown_cell(f"# A {stem}")])
    node.metadata = {"kernelspec": kernel} if kernel else {}
    node.cells.append(new.new_code_cell(DECLARED, metadata={"tags": ["parameters"]}))
    for text in cells + ((f"print('{CLOSING_LINE} {stem}')",) if closing else ()):
        node.cells.append((new.new_markdown_cell if text[0] == "#" else new.new_code_cell)(text))
    path = root / "notebooks" / f"{stem}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(node, path)


def statuses(steps):
    return [step.status for step in steps]


def test_r53_raising_cell_names_notebook_heading_and_cell(checkout, capsys):
    write_notebook(checkout, "00_data", "1 + 1", "2", "## Pairs\n\ntext", "3")
    write_notebook(checkout, "01_train", "## Losses", "1 + 1", "raise ValueError('no gradient')")
    write_notebook(checkout, "02_later", "1 + 1")
    message = "01_train.ipynb, section 'Losses', cell 5: ValueError: no gradient"
    with pytest.raises(NotebookError, match=f"^{message}$"):
        run_paper()
    left = sorted(os.listdir(OUTPUTS))
    assert left == ["00_data.ipynb", "00_data.json", "01_train.failed.ipynb"]
    assert "no gradient" in (OUTPUTS / "01_train.failed.ipynb").read_text()
    told = re.sub(r" \d+ s:", "", capsys.readouterr().err)  # each section as it starts
    sections = ["00_data: A 00_data", "00_data: Pairs", "01_train: A 01_train", "01_train: Losses"]
    assert told.splitlines() == sections


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_r53_failing_run_leaves_the_previous_output_and_is_repeated(
    checkout, no_kernels, monkeypatch, error
):
    write_notebook(checkout, "00_data")
    (step,) = run_paper()
    good = step.output.read_bytes()

    def execute(source, target, parameters, **options):
        Path(target).write_bytes(good[:99])
        raise error

    with monkeypatch.context() as patch, pytest.raises((NotebookError, KeyboardInterrupt)) as found:
        patch.setattr(pipeline.papermill, "execute_notebook", execute)
        run_paper(force=True)
    assert step.output.read_bytes() == good
    assert isinstance(error, KeyboardInterrupt) or "00_data.ipynb: OSError: " in str(found.value)
    assert sorted(os.listdir(OUTPUTS)) == ["00_data.failed.ipynb", "00_data.ipynb"]
    assert statuses(run_paper()) == ["ran"]  # files may be of the failure
    assert sorted(os.listdir(OUTPUTS)) == ["00_data.ipynb", "00_data.json"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["import os; os.kill(os.getpid(), 9)", "1"], "cell 4: the kernel died"),
        (["import sys; sys.exit(0)", "1"], "cell 4: ended without printing"),
        (["while True: pass", "1"], "cell 4: CellTimeoutError: .* after 4 seconds"),
        ([f"print('{CLOSING_LINE} 00_data')", "1"], "cell 5: ended without printing"),
    ],
)
def test_r54_dead_kernel_and_exit_end_like_a_raised_cell(checkout, monkeypatch, cells, message):
    monkeypatch.setattr(pipeline, "TIMEOUT", 4 if "while" in cells[0] else 600)
    write_notebook(checkout, "00_data", "## Pairs", *cells, closing=False)
    write_notebook(checkout, "01_later")
    with pytest.raises(NotebookError, match=f"^00_data.ipynb, section 'Pairs', {message}"):
        run_paper()
    assert os.listdir(OUTPUTS) == ["00_data.failed.ipynb"]


def test_r55_given_values_are_checked_before_any_kernel(checkout, no_kernels):
    for stem in ("04_train", "00_data", "Untitled", "00_data-Copy1"):
        write_notebook(checkout, stem)
    numbered = [path.stem for path in find_notebooks(checkout / "notebooks")]
    assert numbered == ["00_data", "04_train"]
    for given, message in [
        ({"seed": "1"}, "seed '1': expected an integer"),
        ({"seed": -1}, "seed -1: expected an integer, not negative"),
        ({"preset": "../quick"}, "preset '../quick' is not known; one of quick, cpu"),
        ({"weights": "nothing/here.safetensors"}, "weights nothing/here.safetensors: no such file"),
        ({"data_root": "nothing/here"}, "nothing/here has none of"),
        ({"data_root": "./synthetic"}, "synthetic has none of"),
        ({"only": ["07_ablation"]}, "no notebook '07_ablation'; there are 00_data, 04_train"),
    ]:
        with pytest.raises(FusionError, match=message):
            run_paper(**given)
    assert no_kernels == [] and not os.path.exists("runs")
    Path("runs").write_text("a file")
    with pytest.raises(NotebookError, match="cannot work there"):
        run_paper()


def test_r56_other_directory_and_path_with_spaces_unicode_braces(checkout, tmp_path, monkeypatch):
    code = """\
from pathlib import Path
assert Path(out_dir).is_absolute() and Path(data_root, "TNO/ir/01.png").is_file()
assert Path(weights).read_text() == "1"
Path(out_dir, "seen.txt").write_text(data_root, encoding="utf-8")
"""
    odd = tmp_path / "Wärme bild $HOME {x} 'q' 图"
    (odd / "here").mkdir(parents=True)
    checkout = checkout.rename(odd / "checkout")
    (checkout / "data/images").rename(odd / "paare")
    monkeypatch.setattr(pipeline, "ROOT", checkout)
    write_notebook(checkout, "00_data", code, "import fusionlib; assert fusionlib.HERE == 1")
    before = sorted(checkout.rglob("*"))

    monkeypatch.chdir(odd / "here")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (step,) = run_paper(data_root="../paare", weights="../checkout/own.safetensors")
    assert step.output == odd / "here/runs/quick/notebooks/00_data.ipynb"
    assert step.output.is_file()
    assert (odd / "here/runs/quick/seen.txt").read_text(encoding="utf-8") == "../paare"
    assert sorted(checkout.rglob("*")) == before  # so a read-only checkout is enough


def test_r57_second_run_refuses_and_a_killed_run_is_taken_over(checkout):
    code = """\
import time
from pathlib import Path
while preset == "quick" and not Path("go").exists():
    time.sleep(0.05)
"""
    write_notebook(checkout, "00_data", code)
    code = f"from paper import pipeline; pipeline.ROOT = pipeline.Path({str(checkout)!r})"
    command = [sys.executable, "-c", f"{code}; pipeline.run_paper(data_root='synthetic')"]
    first = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    try:
        deadline = time.monotonic() + 60
        while not (OUTPUTS / "00_data.running.ipynb").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(NotebookError, match=f"quick: process {first.pid} is at work here"):
            run_paper()
        assert statuses(run_paper("cpu")) == ["ran"]  # another folder, at the same time
    finally:
        first.kill()
        first.wait()
    assert os.listdir(OUTPUTS) == ["00_data.running.ipynb"]
    Path("go").touch()
    assert statuses(run_paper()) == ["ran"]
    assert sorted(os.listdir(OUTPUTS)) == ["00_data.ipynb", "00_data.json"]


def test_r59_kernel_is_this_interpreter_whatever_the_specs_say(checkout, tmp_path, monkeypatch):
    bogus = {"argv": ["/no/such/python", "{connection_file}"], "display_name": "x"}
    for name in ("python3", "other"):
        folder = tmp_path / "jupyter/kernels" / name
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps(bogus | {"language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    before = dict(os.environ)
    code = """\
import json, os, sys, fusionlib
from pathlib import Path
names = ("PYTHONHASHSEED", "TQDM_DISABLE", "MPLBACKEND")
seen = [sys.executable, fusionlib.__file__, *(os.environ[name] for name in names)]
Path(out_dir, "seen.json").write_text(json.dumps(seen))
"""
    kernel = {"name": "conda-env-other", "display_name": "Other", "language": "python"}
    write_notebook(checkout, "00_data", code, kernel=kernel)
    run_paper()
    assert json.loads(Path("runs/quick/seen.json").read_text()) == [
        sys.executable, str(checkout / "fusionlib/__init__.py"), "0", "1",
        "module://matplotlib_inline.backend_inline",
    ]  # fmt: skip
    assert dict(os.environ) == before
