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


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in small, with everything a step depends on."""
    root = tmp_path / "checkout"
    for name in ("notebooks", "fusionlib", "data/splits", "data/weights", "data/images/TNO/ir"):
        (root / name).mkdir(parents=True)
    (root / "fusionlib/__init__.py").write_text("HERE = 1\n")
    (root / "data/splits/TNO.csv").write_text("name\n01\n")
    (root / "data/weights/quick.json").write_text("{}\n")
    (root / "data/images/TNO/ir/01.png").write_bytes(b"image")
    monkeypatch.setattr(pipeline, "ROOT", root)
    monkeypatch.setattr("fusionlib.datasets.REPOSITORY", root)
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return root


def write_notebook(root, stem, *cells, declared=DECLARED, closing=True, metadata=None):
    """Writes title, parameters, the cells (markdown where they begin with #) and the closing."""
    node = nbformat.v4.new_notebook(metadata=metadata or {})
    node.cells.append(nbformat.v4.new_markdown_cell(f"# Title of {stem}"))
    if declared is not None:
        tags = {"tags": ["parameters"]}
        node.cells.append(nbformat.v4.new_code_cell(declared, metadata=tags))
    for text in cells:
        new = nbformat.v4.new_markdown_cell if text[0] == "#" else nbformat.v4.new_code_cell
        node.cells.append(new(text))
    if closing:
        node.cells.append(nbformat.v4.new_code_cell(f"print('{CLOSING_LINE} {stem}')"))
    path = root / "notebooks" / f"{stem}.ipynb"
    nbformat.write(node, path)
    return path


def without_kernels(monkeypatch):
    """Puts a fake in place of papermill, for tests of what comes before and after it."""
    calls = []

    def execute(source, target, parameters, **options):
        calls.append(os.path.basename(source).removesuffix(".ipynb"))
        node = nbformat.read(source, as_version=4)
        out = nbformat.v4.new_output("stream", name="stdout", text=f"{CLOSING_LINE} {calls[-1]}\n")
        node.cells[-1].outputs = [out]
        node.metadata["run"] = time.monotonic()  # like papermill, never the same file twice
        nbformat.write(node, target)
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
    assert str(caught.value) == (
        "01_train.ipynb, section 'Losses', cell 5: ValueError: no gradient"
    )
    made = sorted(os.listdir("runs/quick/notebooks"))
    assert made == ["00_data.ipynb", "00_data.json", "01_train.failed.ipynb"]
    assert "no gradient" in Path("runs/quick/notebooks/01_train.failed.ipynb").read_text()


def test_r53_failing_run_leaves_the_previous_output_and_is_repeated(checkout):
    write_notebook(checkout, "00_data", WRITE_VALUE)
    (step,) = run_paper()
    good = step.output.read_bytes()
    write_notebook(checkout, "00_data", WRITE_VALUE, "1 / 0")
    with pytest.raises(NotebookError, match="ZeroDivisionError"):
        run_paper()
    assert step.output.read_bytes() == good
    failed = step.output.with_suffix(".failed.ipynb")
    assert failed.exists()

    write_notebook(checkout, "00_data", WRITE_VALUE)  # as before, but files may be of the failure
    assert statuses(run_paper()) == ["ran"]
    assert not failed.exists()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "cell 4: the kernel died"),
        ("import sys; sys.exit(0)", "cell 4: SystemExit: 0"),
        ("import os; os._exit(0)", "cell 4: the kernel died"),
        ("if True: quit()", "cell 4: RuntimeError: quit() or exit() was called"),
    ],
)
def test_r54_dead_kernel_and_exit_end_like_a_raised_cell(checkout, cell, message):
    write_notebook(checkout, "00_data", "## Pairs", cell, "1 + 1")
    write_notebook(checkout, "01_later")
    with pytest.raises(NotebookError) as caught:
        run_paper()
    assert str(caught.value).startswith("00_data.ipynb, section 'Pairs', cell ")
    assert message in str(caught.value)
    assert os.listdir("runs/quick/notebooks") == ["00_data.failed.ipynb"]


def test_r54_time_limit_is_for_the_whole_notebook(checkout):
    cells = ["import time; time.sleep(2.5)", "time.sleep(2.5)", "while True: pass"]
    write_notebook(checkout, "00_data", *cells)
    start = time.monotonic()
    with pytest.raises(NotebookError, match=r"not finished 6 s after the notebook started"):
        run_paper(timeout=6)
    assert time.monotonic() - start < 20
    assert os.listdir("runs/quick/notebooks") == ["00_data.failed.ipynb"]


def test_r54_closing_line_must_be_in_the_last_code_cell(checkout):
    line = f"print('{CLOSING_LINE} 00_data')"
    write_notebook(checkout, "00_data", line, "print('notebook finished: 00_dat')", closing=False)
    with pytest.raises(NotebookError, match=r"cell 4: the last code cell did not print"):
        run_paper()
    assert os.listdir("runs/quick/notebooks") == ["00_data.failed.ipynb"]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (DECLARED + "steps = 3\n", "unknown parameter 'steps'"),
        (DECLARED.replace("seed", "sead"), "unknown parameter 'sead'"),
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
    checkout, monkeypatch, declared, message
):
    calls = without_kernels(monkeypatch)
    write_notebook(checkout, "00_data")
    write_notebook(checkout, "01_network", declared=declared)
    with pytest.raises(NotebookError, match=rf"^01_network.ipynb: .*{message}"):
        run_paper()
    assert calls == []
    assert not os.path.exists("runs")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": "1"}, r"'seed' must be int like its default 0, not str '1'; accepted are preset"),
        ({"seed": True}, "'seed' must be int"),
        ({"device": None}, "'device' must be str"),
        ({"preset": "quik"}, "'preset': 'quik'; accepted are quick, cpu, paper"),
        ({"preset": "../quick"}, "'preset'"),
        ({"weights": "nothing/here.safetensors"}, "'weights': .* does not exist"),
        ({"data_root": "nothing/here"}, "'data_root': .* does not exist"),
        ({"data_root": 3}, "'data_root': .* does not exist"),
        ({"only": ["07_ablation"]}, "no notebook '07_ablation'; there are 00_data"),
        ({"notebooks_dir": "nothing/here"}, "no notebooks named like"),
    ],
)
def test_r55_given_values_are_checked_before_any_kernel(checkout, monkeypatch, given, message):
    calls = without_kernels(monkeypatch)
    write_notebook(checkout, "00_data")
    with pytest.raises(NotebookError, match=message):
        run_paper(**given)
    assert calls == []


def test_r55_a_file_that_is_no_notebook_is_named(checkout, monkeypatch):
    calls = without_kernels(monkeypatch)
    write_notebook(checkout, "00_data")
    (checkout / "notebooks/01_network.ipynb").write_text("{")
    with pytest.raises(NotebookError, match=r"01_network.ipynb: not a readable notebook"):
        run_paper()
    assert calls == []


def test_only_numbered_notebooks_belong_to_the_paper(checkout):
    write_notebook(checkout, "04_train")
    write_notebook(checkout, "00_data")
    write_notebook(checkout, "Untitled")
    write_notebook(checkout, "00_data-Copy1")
    names = [path.stem for path in find_notebooks(checkout / "notebooks")]
    assert names == ["00_data", "04_train"]


def test_r56_other_directory_and_path_with_spaces_unicode_braces(checkout, tmp_path, monkeypatch):
    code = """\
import os
from pathlib import Path
assert Path(out_dir).is_absolute() and Path(data_root, "01.png").is_file()
assert Path(weights).read_text() == "weights"
Path(out_dir, "seen.txt").write_text(data_root, encoding="utf-8")
"""
    odd = tmp_path / "Wärme bild $HOME {x} 'q' 图"
    (odd / "here").mkdir(parents=True)
    (odd / "paare").mkdir()
    (odd / "paare/01.png").write_bytes(b"")
    (odd / "w.safetensors").write_text("weights")
    checkout = checkout.rename(odd / "checkout")
    monkeypatch.setattr(pipeline, "ROOT", checkout)
    write_notebook(checkout, "00_data", code, "import fusionlib; assert fusionlib.HERE == 1")
    before = sorted(p for p in checkout.rglob("*") if "__pycache__" not in p.parts)

    monkeypatch.chdir(odd / "here")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (step,) = run_paper(data_root="../paare", weights="../w.safetensors", runs_dir="out")
    assert step.output == odd / "here/out/quick/notebooks/00_data.ipynb"
    assert step.output.is_file()
    assert (odd / "here/out/quick/seen.txt").read_text(encoding="utf-8") == str(odd / "paare")
    assert sorted(checkout.rglob("*")) == before  # so a read-only checkout is enough


def test_r37_paths_with_home_and_dots_are_resolved(checkout, tmp_path, monkeypatch):
    without_kernels(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home/pairs").mkdir(parents=True)
    write_notebook(checkout, "00_data")
    (step,) = run_paper(data_root="~/pairs", runs_dir="~/a/../b")
    assert step.output == tmp_path / "home/b/quick/notebooks/00_data.ipynb"
    record = json.loads(step.output.with_suffix(".json").read_text(encoding="utf-8"))
    parameters = record["inputs"]["parameters"]
    assert parameters["data_root"] == str(tmp_path / "home/pairs")
    assert parameters["out_dir"] == str(tmp_path / "home/b/quick")


def test_r37_nothing_but_a_preset_names_the_folder_below_runs(checkout, tmp_path):
    write_notebook(checkout, "00_data")
    for preset in ("../quick", "/quick", "quick/../..", "~"):
        with pytest.raises(NotebookError, match="'preset'"):
            run_paper(preset)
    assert not (tmp_path / "runs").exists()


def finished(folder):
    """Everything that looks finished is: notebooks with a closing line, records that fit them."""
    for notebook in folder.glob("notebooks/[0-9][0-9]_*.ipynb"):
        if notebook.name.count(".") > 1:  # failed or running
            continue
        last = nbformat.read(notebook, as_version=4).cells[-1]
        assert f"{CLOSING_LINE} {notebook.stem}" in last.outputs[0].text
    for record in folder.glob("notebooks/*.json"):
        told = json.loads(record.read_text(encoding="utf-8"))
        assert told["sha256"] == file_sha256(record.with_suffix(".ipynb"))
        assert all((folder / name).is_file() for name in told["written"])


KILLS = 20


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
    run = "from paper.pipeline import *; run_paper(notebooks_dir={!r}, runs_dir={!r})"
    notebooks = str(checkout / "notebooks")
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", run.format(notebooks, "whole")], check=True)
    length, rng = time.monotonic() - started, random.Random(0)
    for _ in range(KILLS):
        if Path("killed").exists():  # otherwise every run ends in the first notebook
            for record in Path("killed/quick/notebooks").glob("01_network.json"):
                record.unlink()
        child = subprocess.Popen([sys.executable, "-c", run.format(notebooks, "killed")])
        time.sleep(rng.uniform(0.2, 1) * length)
        child.kill()
        child.wait()
        finished(Path("killed/quick"))
    subprocess.run([sys.executable, "-c", run.format(notebooks, "killed")], check=True)
    finished(Path("killed/quick"))
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
        running = Path("runs/quick/notebooks/00_data.running.ipynb")
        deadline = time.monotonic() + 60
        while not running.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(NotebookError) as caught:
            run_paper()
        assert f"quick: process {first.pid} is at work here" in str(caught.value)
        assert statuses(run_paper("cpu")) == ["ran"]  # another folder, at the same time
    finally:
        first.kill()
        first.wait()
    assert os.listdir("runs/quick/notebooks") == ["00_data.running.ipynb"]
    Path("go").touch()
    assert statuses(run_paper()) == ["ran"]
    assert sorted(os.listdir("runs/quick/notebooks")) == ["00_data.ipynb", "00_data.json"]


def test_r58_second_run_skips_and_force_repeats_byte_for_byte(checkout, capsys):
    write_notebook(checkout, "00_data", WRITE_VALUE)
    assert statuses(run_paper(seed=7)) == ["ran"]
    written = Path("runs/quick/tables/value.csv").read_bytes()
    assert written == b"seed,7\n"

    capsys.readouterr()
    assert statuses(run_paper(seed=7)) == ["skipped"]
    assert capsys.readouterr().out == "00_data: skipped (0.0 s)\n"

    assert statuses(run_paper(seed=7, force=True)) == ["ran"]
    assert Path("runs/quick/tables/value.csv").read_bytes() == written

    os.remove("runs/quick/tables/value.csv")
    assert statuses(run_paper(seed=7)) == ["ran"]
    assert "gone or changed: tables/value.csv" in capsys.readouterr().out


def change_image(root):
    (root / "data/images/TNO/ir/01.png").write_bytes(b"other")


def change_image_time(root):
    os.utime(root / "data/images/TNO/ir/01.png", ns=(1, 1))


def add_image(root):
    (root / "data/images/TNO/ir/02.png").write_bytes(b"image")


def change_split(root):
    (root / "data/splits/TNO.csv").write_text("name\n02\n")


def change_shipped_weights(root):
    (root / "data/weights/quick.json").write_text("{ }\n")


def change_code(root):
    (root / "fusionlib/__init__.py").write_text("HERE = 2\n")


def change_cell(root):
    write_notebook(root, "00_data", "1 + 2")


def change_output(root):
    with open("runs/quick/notebooks/00_data.ipynb", "a") as file:
        file.write("\n")


def lose_output(root):
    os.remove("runs/quick/notebooks/00_data.ipynb")


def lose_record(root):
    os.remove("runs/quick/notebooks/00_data.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_image, "changed: images"),
        (change_image_time, "changed: images"),
        (add_image, "changed: images"),
        (change_split, "changed: data"),
        (change_shipped_weights, "changed: data"),
        (change_code, "changed: fusionlib"),
        (change_cell, "changed: notebook"),
        (change_output, "00_data.ipynb is gone or was changed"),
        (lose_output, "00_data.ipynb is gone or was changed"),
        (lose_record, "no complete run so far"),
    ],
)
def test_r58_change_of_a_dependency_repeats_this_step_and_later_ones(
    checkout, monkeypatch, capsys, change, reason
):
    calls = without_kernels(monkeypatch)
    write_notebook(checkout, "00_data", "1 + 1")
    write_notebook(checkout, "01_network", "1 + 1")
    assert statuses(run_paper()) == ["ran", "ran"]
    assert statuses(run_paper()) == ["skipped", "skipped"]
    capsys.readouterr()
    change(checkout)
    assert statuses(run_paper()) == ["ran", "ran"]
    assert f"00_data: running ({reason})" in capsys.readouterr().out
    assert statuses(run_paper()) == ["skipped", "skipped"]
    assert calls == ["00_data", "01_network"] * 2


def test_r58_parameters_weights_versions_and_threads_count(checkout, monkeypatch):
    import torch

    without_kernels(monkeypatch)
    write_notebook(checkout, "00_data")
    weights = checkout.parent / "own.safetensors"
    weights.write_bytes(b"1")
    given = {"weights": weights}
    assert statuses(run_paper(**given)) == ["ran"]
    assert statuses(run_paper(**given)) == ["skipped"]
    weights.write_bytes(b"2")
    assert statuses(run_paper(**given)) == ["ran"]
    assert statuses(run_paper(**given, seed=1)) == ["ran"]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    assert statuses(run_paper(**given, seed=1)) == ["ran"]
    monkeypatch.setattr(pipeline.numpy, "__version__", "0.0")
    assert statuses(run_paper(**given, seed=1)) == ["ran"]
    assert statuses(run_paper(**given, seed=1)) == ["skipped"]


def test_r58_data_root_is_followed_through_links(checkout, monkeypatch):
    without_kernels(monkeypatch)
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
def test_r58_with_the_drawn_scenes_images_do_not_count(checkout, monkeypatch, given):
    without_kernels(monkeypatch)
    write_notebook(checkout, "00_data")
    root = {"data_root": "synthetic"} if given == "parameter" else {}
    if given == "environment":
        assert statuses(run_paper()) == ["ran"]
        monkeypatch.setenv("FUSIONLIB_DATA", "synthetic")
    (step,) = run_paper(**root)
    assert step.status == "ran"
    record = json.loads(step.output.with_suffix(".json").read_text(encoding="utf-8"))
    assert record["inputs"]["parameters"]["data_root"] == root.get("data_root")
    change_image(checkout)
    assert statuses(run_paper(**root)) == ["skipped"]
    with pytest.raises(NotebookError, match="'data_root'"):  # a folder, and there is none
        run_paper(data_root="./synthetic")


def complete(steps):
    return [step.name for step in complete_steps(steps)]


def test_one_step_is_completed_by_the_others_of_the_same_run(checkout, monkeypatch):
    without_kernels(monkeypatch)
    stems = ["00_data", "01_network", "02_cii"]
    for stem in stems:
        write_notebook(checkout, stem, WRITE_VALUE)
    assert complete([]) == []
    assert complete(run_paper(only=["01_network"])) == ["01_network"]
    run_paper()
    for path in Path("runs/quick/notebooks").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(record | {"seconds": 12.5}), encoding="utf-8")
    write_notebook(checkout, "02_cii", "1 + 1")  # older code is complete all the same
    only = run_paper(only=["01_network"], force=True)
    first, _, last = complete_steps(only)
    assert [first.name, last.name] == ["00_data", "02_cii"]
    assert (first.seconds, first.status) == (12.5, "skipped") and first.output.is_file()
    change_output(checkout)  # of 00_data
    assert complete(only) == ["01_network", "02_cii"]
    os.remove(checkout / "notebooks/02_cii.ipynb")
    assert complete(only) == ["01_network"]


@pytest.mark.parametrize("other", ["seed", "images", "weights"])
def test_steps_of_other_parameters_images_or_weights_are_of_another_run(
    checkout, monkeypatch, other
):
    without_kernels(monkeypatch)
    for stem in ("00_data", "01_network"):
        write_notebook(checkout, stem)
    weights = checkout.parent / "own.safetensors"
    weights.write_bytes(b"1")
    run_paper(weights=weights)
    if other == "images":
        change_image(checkout)
    elif other == "weights":
        weights.write_bytes(b"2")
    seed = 1 if other == "seed" else 0
    assert complete(run_paper(weights=weights, seed=seed, only=["01_network"])) == ["01_network"]


def test_r58_repeating_only_an_earlier_step_repeats_later_ones_next_time(checkout, monkeypatch):
    without_kernels(monkeypatch)
    for stem in ("00_data", "01_network", "02_cii"):
        write_notebook(checkout, stem)
    run_paper()
    assert statuses(run_paper(only=["01_network"], force=True)) == ["ran"]
    assert statuses(run_paper()) == ["skipped", "skipped", "ran"]


def test_p5_full_disk_leaves_no_half_notebook(checkout, monkeypatch):
    def execute(source, target, parameters, **options):
        Path(target).write_text('{"cells": [')
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline.papermill, "execute_notebook", execute)
    write_notebook(checkout, "00_data")
    with pytest.raises(NotebookError, match=r"00_data.ipynb, .*No space left on device"):
        run_paper()
    assert os.listdir("runs/quick/notebooks") == []


def test_p5_interrupt_keeps_the_output_and_frees_the_folder(checkout, monkeypatch):
    without_kernels(monkeypatch)
    write_notebook(checkout, "00_data")
    (step,) = run_paper()
    good = step.output.read_bytes()

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.papermill, "execute_notebook", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_paper(force=True)
    assert step.output.read_bytes() == good
    without_kernels(monkeypatch)
    assert statuses(run_paper()) == ["ran"]


def test_runs_dir_that_cannot_be_made_is_a_named_error(checkout, monkeypatch):
    without_kernels(monkeypatch)
    write_notebook(checkout, "00_data")
    Path("runs").touch()
    with pytest.raises(NotebookError, match="cannot work there"):
        run_paper()


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
Path(out_dir, f"{seed}.json").write_text(json.dumps(seen))
"""
    kernelspec = {"name": "conda-env-other", "display_name": "Other", "language": "python"}
    write_notebook(checkout, "00_data", code, metadata={"kernelspec": kernelspec})
    run_paper()
    expected = [sys.executable, str(checkout / "fusionlib/__init__.py"), "0", "1"]
    expected.append("module://matplotlib_inline.backend_inline")
    assert json.loads(Path("runs/quick/0.json").read_text()) == expected
    assert dict(os.environ) == before
