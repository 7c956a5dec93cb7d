"""Rows 53 to 59 of the fault list, each with notebooks of a few lines through the real runner."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from fusionlib.errors import NotebookError
from fusionlib.files import file_sha256
from paper import pipeline
from paper.pipeline import CLOSING_LINE, complete_steps, find_notebooks, run_paper

DECLARED = """\
preset = "quick"  # quick, cpu or paper; a second = in a line is fine
data_root = None
encoder = "embedded"
weights = None
out_dir = "runs/quick"
device = "cpu"
seed = 0
"""
WRITE_VALUE = """\
from pathlib import Path
Path(out_dir, "tables").mkdir(parents=True, exist_ok=True)
Path(out_dir, "tables", "value.csv").write_text(f"seed,{seed}\\n", encoding="utf-8")
"""
OUTPUTS = Path("runs/quick/notebooks")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in small, with everything a step depends on."""
    root = tmp_path / "checkout"
    for name, content in {
        "fusionlib/__init__.py": "HERE = 1\n",
        "data/splits/TNO.csv": "name\n01\n",
        "data/images/TNO/ir/01.png": "image",
        "own.safetensors": "1",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    monkeypatch.setattr(pipeline, "ROOT", root)
    monkeypatch.setattr("fusionlib.datasets.USER_DATA", root / "data")
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return root


def write_notebook(root, stem, *cells, declared=DECLARED, closing=True, metadata=None):
    """Writes title, parameters, the cells (markdown where they begin with #) and the closing."""
    new = nbformat.v4
    node = new.new_notebook(metadata=metadata or {}, cells=[new.new_markdown_cell(f"# A {stem}")])
    if declared is not None:
        node.cells.append(new.new_code_cell(declared, metadata={"tags": ["parameters"]}))
    for text in cells + ((f"print('{CLOSING_LINE} {stem}')",) if closing else ()):
        node.cells.append((new.new_markdown_cell if text[0] == "#" else new.new_code_cell)(text))
    path = root / "notebooks" / f"{stem}.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(node, path)


@pytest.fixture
def no_kernels(monkeypatch):
    """Puts a fake in place of papermill, for what comes before and after it; lists its calls."""
    calls = []

    def execute(source, target, parameters, **options):
        calls.append(os.path.basename(source).removesuffix(".ipynb"))
        node = nbformat.read(source, as_version=4)
        out = nbformat.v4.new_output("stream", name="stdout", text=f"{CLOSING_LINE} {calls[-1]}\n")
        node.cells[-1].outputs = [out]
        node.metadata["run"] = time.monotonic()  # like papermill, never the same file twice
        nbformat.write(node, target)
        Path(parameters["out_dir"], f"{calls[-1]}.csv").write_text("value\n")
        return node

    monkeypatch.setattr(pipeline.papermill, "execute_notebook", execute)
    return calls


def statuses(steps):
    return [step.status for step in steps]


def test_r53_raising_cell_names_notebook_heading_and_cell(checkout):
    write_notebook(checkout, "00_data", "1 + 1")
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
        assert left == set() and "00_data.ipynb, cell 1: OSError" in str(found.value)
    else:
        assert left == {"00_data.failed.ipynb"}
    assert statuses(run_paper()) == ["ran"]  # files may be of the failure
    assert sorted(os.listdir(OUTPUTS)) == ["00_data.ipynb", "00_data.json"]


@pytest.mark.parametrize(
    ("cells", "closing", "message"),
    [
        (["import os; os.kill(os.getpid(), 9)", "1"], True, "cell 4: the kernel died"),
        (["import sys; sys.exit(0)", "1"], True, "cell 4: SystemExit: 0"),
        (["if True: quit()", "1"], True, "cell 4: RuntimeError: quit() or exit() was called"),
        ([f"print('{CLOSING_LINE} 00_data')", "print('notebook finished: 00_dat')"], False,
         "cell 5: the last code cell did not print"),
    ],
)  # fmt: skip
def test_r54_dead_kernel_and_exit_end_like_a_raised_cell(checkout, cells, closing, message):
    write_notebook(checkout, "00_data", "## Pairs", *cells, closing=closing)
    write_notebook(checkout, "01_later")
    with pytest.raises(NotebookError) as caught:
        run_paper()
    assert str(caught.value).startswith(f"00_data.ipynb, section 'Pairs', {message}")
    assert os.listdir(OUTPUTS) == ["00_data.failed.ipynb"]


def test_r54_time_limit_is_for_the_whole_notebook(checkout):
    cells = ["import time; time.sleep(2.5)", "time.sleep(2.5)", "while True: pass"]
    write_notebook(checkout, "00_data", *cells)
    start = time.monotonic()
    with pytest.raises(NotebookError, match=r"not finished 6 s after the notebook started"):
        run_paper(timeout=6)
    assert time.monotonic() - start < 20
    assert os.listdir(OUTPUTS) == ["00_data.failed.ipynb"]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (DECLARED + "steps = 3\n", "unknown parameter 'steps'"),
        (DECLARED.replace("seed = 0\n", ""), "parameter 'seed' is missing"),
        (DECLARED.replace("seed = 0", "seed = '0'"), "parameter 'seed' must be str"),
        (DECLARED.replace("seed = 0", "seed = False"), "parameter 'seed' must be bool"),
        (DECLARED.replace("seed = 0", "seed = int('0')"), "parameters cell"),
        (DECLARED + "import os\n", "parameters cell"),
        (DECLARED + "seed = \n", "parameters cell"),
        (None, "0 cells tagged 'parameters'"),
    ],
)
def test_r55_declared_parameters_are_checked_before_any_kernel(
    checkout, no_kernels, declared, message
):
    write_notebook(checkout, "00_data")
    write_notebook(checkout, "01_network", declared=declared)
    with pytest.raises(NotebookError, match=rf"^01_network.ipynb: .*{message}"):
        run_paper()
    assert no_kernels == [] and not os.path.exists("runs")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": "1"}, r"'seed' must be int like its default 0, not str '1'; accepted are preset"),
        ({"seed": True}, "'seed' must be int"),
        ({"device": None}, "'device' must be str"),
        ({"preset": "quik"}, "'preset': 'quik'; accepted are quick, cpu"),
        ({"preset": "../quick"}, "'preset'"),
        ({"weights": "nothing/here.safetensors"}, "'weights': .* does not exist"),
        ({"data_root": "nothing/here"}, "'data_root': .* does not exist"),
        ({"data_root": "./synthetic"}, "'data_root': .* does not exist"),
        ({"only": ["07_ablation"]}, "no notebook '07_ablation'; there are 00_data"),
        ({"notebooks_dir": "nothing/here"}, "no notebooks named like"),
        ({"runs_dir": "checkout/own.safetensors"}, "cannot work there"),
    ],
)
def test_r55_given_values_are_checked_before_any_kernel(checkout, no_kernels, given, message):
    write_notebook(checkout, "00_data")
    with pytest.raises(NotebookError, match=message):
        run_paper(**given)
    assert no_kernels == []


def test_only_numbered_notebooks_belong_to_the_paper_and_must_be_readable(checkout, no_kernels):
    for stem in ("04_train", "00_data", "Untitled", "00_data-Copy1"):
        write_notebook(checkout, stem)
    names = [path.stem for path in find_notebooks(checkout / "notebooks")]
    assert names == ["00_data", "04_train"]
    (checkout / "notebooks/04_train.ipynb").write_text("{")
    with pytest.raises(NotebookError, match=r"04_train.ipynb: not a readable notebook"):
        run_paper()
    assert no_kernels == []


def test_r56_other_directory_and_path_with_spaces_unicode_braces(checkout, tmp_path, monkeypatch):
    code = """\
import os
from pathlib import Path
assert Path(out_dir).is_absolute() and Path(data_root, "01.png").is_file()
assert Path(weights).read_text() == "1"
Path(out_dir, "seen.txt").write_text(data_root, encoding="utf-8")
"""
    odd = tmp_path / "Wärme bild $HOME {x} 'q' 图"
    (odd / "here").mkdir(parents=True)
    (odd / "paare").mkdir()
    (odd / "paare/01.png").write_bytes(b"")
    checkout = checkout.rename(odd / "checkout")
    monkeypatch.setattr(pipeline, "ROOT", checkout)
    write_notebook(checkout, "00_data", code, "import fusionlib; assert fusionlib.HERE == 1")
    before = sorted(checkout.rglob("*"))

    monkeypatch.chdir(odd / "here")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    weights = "../checkout/own.safetensors"
    (step,) = run_paper(data_root="../paare", weights=weights, runs_dir="out")
    assert step.output == odd / "here/out/quick/notebooks/00_data.ipynb"
    assert step.output.is_file()
    assert (odd / "here/out/quick/seen.txt").read_text(encoding="utf-8") == str(odd / "paare")
    assert sorted(checkout.rglob("*")) == before  # so a read-only checkout is enough


def test_r37_paths_with_home_and_dots_are_resolved(checkout, no_kernels, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/pairs").mkdir(parents=True)
    write_notebook(checkout, "00_data")
    (step,) = run_paper(data_root="~/pairs", runs_dir="~/a/../b")
    assert step.output == tmp_path / "home/b/quick/notebooks/00_data.ipynb"
    parameters = pipeline.read_json(step.output.with_suffix(".json"))["inputs"]["parameters"]
    assert parameters["data_root"] == str(tmp_path / "home/pairs")
    assert parameters["out_dir"] == str(tmp_path / "home/b/quick")


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

    def start(runs):
        call = f"run_paper(notebooks_dir={str(checkout / 'notebooks')!r}, runs_dir={runs!r})"
        return subprocess.Popen([sys.executable, "-c", f"from paper.pipeline import *; {call}"])

    started = time.monotonic()
    assert start("whole").wait() == 0
    length, rng = time.monotonic() - started, random.Random(0)
    for _ in range(20):
        # otherwise every run ends in the first notebook
        Path("killed/quick/notebooks/01_network.json").unlink(missing_ok=True)
        child = start("killed")
        time.sleep(rng.uniform(0.2, 1) * length)
        child.kill()
        child.wait()
        check_finished(Path("killed/quick"))
    assert start("killed").wait() == 0
    check_finished(Path("killed/quick"))
    for path in Path("whole/quick/tables").iterdir():
        assert (Path("killed/quick/tables") / path.name).read_bytes() == path.read_bytes()
    assert not list(Path("killed/quick").rglob("*.running.ipynb"))


def test_r57_second_run_refuses_and_a_killed_run_is_taken_over(checkout):
    code = """\
import time
from pathlib import Path
while preset == "quick" and not Path("go").exists():
    time.sleep(0.05)
"""
    write_notebook(checkout, "00_data", code)
    notebooks = str(checkout / "notebooks")
    code = f"from paper.pipeline import *; run_paper(notebooks_dir={notebooks!r})"
    first = subprocess.Popen([sys.executable, "-c", code])
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


def test_r58_second_run_skips_and_force_repeats_byte_for_byte(checkout, capsys):
    write_notebook(checkout, "00_data", WRITE_VALUE)
    (first,) = run_paper(seed=7)
    written = Path("runs/quick/tables/value.csv").read_bytes()
    assert first.status == "ran" and written == b"seed,7\n"
    capsys.readouterr()
    (second,) = run_paper(seed=7)
    assert (second.status, second.seconds) == ("skipped", first.seconds)
    assert capsys.readouterr().out == "00_data: skipped\n"
    assert statuses(run_paper(seed=7, force=True)) == ["ran"]
    assert Path("runs/quick/tables/value.csv").read_bytes() == written


CHANGES = {
    "other image": (lambda r: (r / "data/images/TNO/ir/01.png").write_text("other"), "images"),
    "image time": (lambda r: os.utime(r / "data/images/TNO/ir/01.png", (1, 1)), "images"),
    "one more image": (lambda r: (r / "data/images/TNO/ir/02.png").write_text("image"), "images"),
    "list": (lambda r: (r / "data/splits/TNO.csv").write_text("name\n02\n"), "data"),
    "code": (lambda r: (r / "fusionlib/__init__.py").write_text("HERE = 2\n"), "code"),
    "cell": (lambda r: write_notebook(r, "00_data", "1 + 2"), "notebook"),
    "weights": (lambda r: (r / "own.safetensors").write_text("2"), "weights"),
    "output": (lambda r: (OUTPUTS / "00_data.ipynb").write_text("{}"), "notebooks/00_data.ipynb"),
    "lost output": (lambda r: (OUTPUTS / "00_data.ipynb").unlink(), "notebooks/00_data.ipynb"),
    "lost table": (lambda r: Path("runs/quick/00_data.csv").unlink(), "00_data.csv"),
    "lost record": (lambda r: (OUTPUTS / "00_data.json").unlink(), "no complete run so far"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_r58_change_of_a_dependency_repeats_this_step_and_later_ones(
    checkout, no_kernels, capsys, change
):
    spoil, reason = CHANGES[change]
    given = {"weights": checkout / "own.safetensors"}
    write_notebook(checkout, "00_data", "1 + 1")
    write_notebook(checkout, "01_network", "1 + 1")
    assert statuses(run_paper(**given)) == ["ran", "ran"]
    assert statuses(run_paper(**given)) == ["skipped", "skipped"]
    capsys.readouterr()
    spoil(checkout)
    assert statuses(run_paper(**given)) == ["ran", "ran"]
    assert f"{reason})\n01" in capsys.readouterr().out.replace("00_data: ran (0.0 s)\n", "")
    assert statuses(run_paper(**given)) == ["skipped", "skipped"]
    assert no_kernels == ["00_data", "01_network"] * 2


def test_r58_seed_versions_and_threads_count(checkout, no_kernels, monkeypatch):
    write_notebook(checkout, "00_data")
    assert statuses(run_paper()) == ["ran"]
    assert statuses(run_paper(seed=1)) == ["ran"]
    monkeypatch.setattr(pipeline.torch, "get_num_threads", lambda: 99)
    assert statuses(run_paper(seed=1)) == ["ran"]
    monkeypatch.setattr(pipeline.numpy, "__version__", "0.0")
    assert statuses(run_paper(seed=1)) == ["ran"]
    assert statuses(run_paper(seed=1)) == ["skipped"]


def test_r58_data_root_is_followed_through_links(checkout, no_kernels, monkeypatch):
    write_notebook(checkout, "00_data")
    big_disk = checkout.parent / "disk"
    big_disk.mkdir()
    (checkout / "data/images/LLVIP").symlink_to(big_disk)
    (big_disk / "back").symlink_to(checkout / "data/images")  # a circle
    monkeypatch.setenv("FUSIONLIB_DATA", str(checkout / "data/images"))
    assert statuses(run_paper()) == ["ran"]
    (big_disk / "01.png").write_bytes(b"")
    assert statuses(run_paper()) == ["ran"]
    assert statuses(run_paper()) == ["skipped"]


@pytest.mark.parametrize("given", ["parameter", "environment"])
def test_r58_with_the_drawn_scenes_images_do_not_count(checkout, no_kernels, monkeypatch, given):
    write_notebook(checkout, "00_data")
    root = {"data_root": "synthetic"} if given == "parameter" else {}
    if given == "environment":
        monkeypatch.setenv("FUSIONLIB_DATA", "synthetic")
    assert statuses(run_paper(**root)) == ["ran"]
    CHANGES["other image"][0](checkout)
    assert statuses(run_paper(**root)) == ["skipped"]


def test_r58_repeating_only_an_earlier_step_repeats_later_ones_next_time(checkout, no_kernels):
    for stem in ("00_data", "01_network", "02_cii"):
        write_notebook(checkout, stem)
    run_paper()
    assert statuses(run_paper(only=["01_network"], force=True)) == ["ran"]
    assert statuses(run_paper()) == ["skipped", "skipped", "ran"]


def complete(steps):
    return [step.name for step in complete_steps(steps)]


def test_one_step_is_completed_by_the_others_of_the_same_run(checkout, no_kernels):
    for stem in ("00_data", "01_network", "02_cii"):
        write_notebook(checkout, stem)
    assert complete(run_paper(only=["01_network"])) == ["01_network"]
    earlier = run_paper()
    write_notebook(checkout, "02_cii", "1 + 1")  # older code is complete all the same
    only = run_paper(only=["01_network"], force=True)
    first, _, last = complete_steps(only)
    assert [first.name, last.name] == ["00_data", "02_cii"]
    assert first.seconds == earlier[0].seconds and first.output.is_file()
    CHANGES["output"][0](checkout)  # of 00_data
    assert complete(only) == ["01_network", "02_cii"]
    os.remove(checkout / "notebooks/02_cii.ipynb")
    assert complete(only) == ["01_network"]


@pytest.mark.parametrize("other", ["seed", "other image", "weights"])
def test_steps_of_other_parameters_images_or_weights_are_of_another_run(
    checkout, no_kernels, other
):
    for stem in ("00_data", "01_network"):
        write_notebook(checkout, stem)
    given = {"weights": checkout / "own.safetensors"}
    run_paper(**given)
    given["seed"] = 1 if other == "seed" else CHANGES[other][0](checkout) and 0
    assert complete(run_paper(**given, only=["01_network"])) == ["01_network"]


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
