"""Rows 53 to 57 and 59 of the fault list, with small notebooks through the real runner."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from fusionlib.errors import FusionError, NotebookError
from fusionlib.files import REPOSITORY, file_sha256
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


def write_notebook(root, stem, *cells, closing=True, metadata=None):
    """Writes title, parameters, the cells (markdown where they begin with #) and the closing."""
    new = nbformat.v4
    node = new.new_notebook(metadata=metadata or {}, cells=[new.new_markdown_cell(f"# A {stem}")])
    node.cells.append(new.new_code_cell(DECLARED, metadata={"tags": ["parameters"]}))
    for text in cells + ((f"print('{CLOSING_LINE} {stem}')",) if closing else ()):
        node.cells.append((new.new_markdown_cell if text[0] == "#" else new.new_code_cell)(text))
    path = root / "notebooks" / f"{stem}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(node, path)


def start_paper(checkout, folder):
    """A process that runs the notebooks of this checkout in a folder."""
    code = f"from paper import pipeline; pipeline.ROOT = pipeline.Path({str(checkout)!r})"
    command = [sys.executable, "-c", f"{code}; pipeline.run_paper()"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, cwd=folder, env=environment)


def statuses(steps):
    return [step.status for step in steps]


def test_r53_raising_cell_names_notebook_heading_and_cell(checkout):
    write_notebook(checkout, "00_data", "1 + 1", "2", "## Pairs\n\ntext", "3")
    write_notebook(checkout, "01_train", "## Losses", "1 + 1", "raise ValueError('no gradient')")
    write_notebook(checkout, "02_later", "1 + 1")
    with pytest.raises(NotebookError) as caught:
        run_paper()
    message = "01_train.ipynb, section 'Losses', cell 5: ValueError: no gradient"
    assert str(caught.value) == message
    made = sorted(os.listdir(OUTPUTS))
    assert made == ["00_data.ipynb", "00_data.json", "01_train.failed.ipynb"]
    assert "no gradient" in (OUTPUTS / "01_train.failed.ipynb").read_text()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_r53_failing_run_leaves_the_previous_output_and_is_repeated(
    checkout, no_kernels, monkeypatch, error
):
    write_notebook(checkout, "00_data")
    (step,) = run_paper()
    good = step.output.read_bytes()

    def execute(source, target, parameters, **options):
        Path(target).write_bytes(good if isinstance(error, KeyboardInterrupt) else good[:99])
        raise error

    with monkeypatch.context() as patch, pytest.raises((NotebookError, KeyboardInterrupt)) as found:
        patch.setattr(pipeline.papermill, "execute_notebook", execute)
        run_paper(force=True)
    assert step.output.read_bytes() == good
    left = {path.name for path in OUTPUTS.iterdir()} - {step.output.name}
    if isinstance(error, OSError):
        assert "00_data.ipynb: OSError: [Errno 28] No space left" in str(found.value)
    assert left == {"00_data.failed.ipynb"}
    assert statuses(run_paper()) == ["ran"]  # files may be of the failure
    assert sorted(os.listdir(OUTPUTS)) == ["00_data.ipynb", "00_data.json"]


@pytest.mark.parametrize(
    ("cells", "closing", "message"),
    [
        (["import os; os.kill(os.getpid(), 9)", "1"], True, "cell 4: the kernel died"),
        (["import sys; sys.exit(0)", "1"], True, "cell 4: ended without printing"),
        ([f"print('{CLOSING_LINE} 00_data')", "print('notebook finished: 00_dat')"], False,
         "cell 5: ended without printing"),
    ],
)  # fmt: skip
def test_r54_dead_kernel_and_exit_end_like_a_raised_cell(checkout, cells, closing, message):
    write_notebook(checkout, "00_data", "## Pairs", *cells, closing=closing)
    write_notebook(checkout, "01_later")
    with pytest.raises(NotebookError) as caught:
        run_paper()
    assert str(caught.value).startswith(f"00_data.ipynb, section 'Pairs', {message}")
    assert os.listdir(OUTPUTS) == ["00_data.failed.ipynb"]


def test_r54_a_cell_that_never_ends_is_stopped(checkout, monkeypatch):
    write_notebook(checkout, "00_data", "while True: pass")
    monkeypatch.setattr(pipeline, "TIMEOUT", 1)
    start = time.monotonic()
    with pytest.raises(NotebookError, match=r"cell 3: CellTimeoutError: .* after 1 seconds"):
        run_paper()
    assert time.monotonic() - start < 60  # a busy machine takes long to stop a kernel
    assert os.listdir(OUTPUTS) == ["00_data.failed.ipynb"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": "1"}, "seed '1': expected an integer"),
        ({"preset": "../quick"}, "preset '../quick' is not known; one of quick, cpu"),
        ({"weights": "nothing/here.safetensors"}, "weights nothing/here.safetensors: no such file"),
        ({"data_root": "nothing/here"}, "nothing/here has none of"),
        ({"data_root": "./synthetic"}, "synthetic has none of"),
        ({"only": ["07_ablation"]}, "no notebook '07_ablation'; there are 00_data"),
    ],
)
def test_r55_given_values_are_checked_before_any_kernel(checkout, no_kernels, given, message):
    write_notebook(checkout, "00_data")
    with pytest.raises(FusionError, match=message):
        run_paper(**given)
    assert no_kernels == [] and not os.path.exists("runs")
    Path("runs").write_text("a file")
    with pytest.raises(NotebookError, match="cannot work there"):
        run_paper()


def test_only_numbered_notebooks_belong_to_the_paper(checkout):
    for stem in ("04_train", "00_data", "Untitled", "00_data-Copy1"):
        write_notebook(checkout, stem)
    names = [path.stem for path in find_notebooks(checkout / "notebooks")]
    assert names == ["00_data", "04_train"]


def test_r56_other_directory_and_path_with_spaces_unicode_braces(checkout, tmp_path, monkeypatch):
    code = """\
import os
from pathlib import Path
assert Path(out_dir).is_absolute() and Path(data_root, "TNO/ir/01.png").is_file()
assert Path(weights).read_text() == "1"
Path(out_dir, "seen.txt").write_text(data_root, encoding="utf-8")
"""
    odd = tmp_path / "Wärme bild $HOME {x} 'q' 图"
    (odd / "here").mkdir(parents=True)
    for side in ("ir", "vi"):
        (odd / "paare/TNO" / side).mkdir(parents=True)
        (odd / "paare/TNO" / side / "01.png").write_bytes(b"")
    checkout = checkout.rename(odd / "checkout")
    monkeypatch.setattr(pipeline, "ROOT", checkout)
    write_notebook(checkout, "00_data", code, "import fusionlib; assert fusionlib.HERE == 1")
    before = sorted(checkout.rglob("*"))

    monkeypatch.chdir(odd / "here")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    weights = "../checkout/own.safetensors"
    (step,) = run_paper(data_root="../paare", weights=weights)
    assert step.output == odd / "here/runs/quick/notebooks/00_data.ipynb"
    assert step.output.is_file()
    assert (odd / "here/runs/quick/seen.txt").read_text(encoding="utf-8") == "../paare"
    assert sorted(checkout.rglob("*")) == before  # so a read-only checkout is enough


def check_finished(folder):
    """Whatever looks finished is: notebooks have a closing line, records fit them."""
    for notebook in folder.glob("notebooks/??_*.ipynb"):
        if notebook.name.count(".") == 1:  # neither failed nor running
            last = nbformat.read(notebook, as_version=4).cells[-1]
            assert f"{CLOSING_LINE} {notebook.stem}" in last.outputs[0].text
    for path in folder.glob("notebooks/*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record["sha256"] == file_sha256(path.with_suffix(".ipynb"))
        assert all((folder / name).is_file() for name in record["written"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_p5_killed_at_random_points_ends_in_the_same_bytes(checkout):
    code = """\
from pathlib import Path
from fusionlib.files import write_atomically
for part in range(20):
    path = Path(out_dir, "tables", f"{part:02d}.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, b"value\\n" * 50_000 + str(part + seed).encode())
"""
    for stem in ("00_data", "01_network"):
        write_notebook(checkout, stem, code)

    def start(folder):
        Path(folder).mkdir(exist_ok=True)
        return start_paper(checkout, folder)

    started = time.monotonic()
    assert start("whole").wait() == 0
    length, rng = time.monotonic() - started, random.Random(0)
    for _ in range(20):
        # otherwise every run ends in the first notebook
        Path("killed/runs/quick/notebooks/01_network.json").unlink(missing_ok=True)
        child = start("killed")
        time.sleep(rng.uniform(0.2, 1) * length)
        child.kill()
        child.wait()
        check_finished(Path("killed/runs/quick"))
    assert start("killed").wait() == 0
    check_finished(Path("killed/runs/quick"))
    for path in Path("whole/runs/quick/tables").iterdir():
        assert (Path("killed/runs/quick/tables") / path.name).read_bytes() == path.read_bytes()
    assert not list(Path("killed/runs/quick").rglob("*.running.ipynb"))


def test_r57_second_run_refuses_and_a_killed_run_is_taken_over(checkout):
    code = """\
import time
from pathlib import Path
while preset == "quick" and not Path("go").exists():
    time.sleep(0.05)
"""
    write_notebook(checkout, "00_data", code)
    first = start_paper(checkout, ".")
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
    kernelspec = {"name": "conda-env-other", "display_name": "Other", "language": "python"}
    write_notebook(checkout, "00_data", code, metadata={"kernelspec": kernelspec})
    run_paper()
    expected = [sys.executable, str(checkout / "fusionlib/__init__.py"), "0", "1"]
    expected.append("module://matplotlib_inline.backend_inline")
    assert json.loads(Path("runs/quick/seen.json").read_text()) == expected
    assert dict(os.environ) == before
