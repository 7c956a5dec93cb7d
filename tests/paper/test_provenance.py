"""P0 and row 51: every committed figure and table says where it comes from, and is up to date."""

import dataclasses
import hashlib
import json
import shutil

import nbformat
import pytest

from fusionlib.errors import FusionError
from paper import pipeline, provenance
from paper import run as runs
from paper.provenance import RECORD, problems, publish

STEM = "05_compare"
FILES = {
    "tables/synthetic/compare.csv": b"table",
    "figures/synthetic/chart.svg": b"chart",
    "figures/fig1_network.svg": b"drawing",
}


def test_r51_committed_figures_and_tables_are_as_new_as_their_inputs():
    assert problems() == []


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout in small: one notebook, a module that it imports, data."""
    root = tmp_path / "checkout"
    for name, content in {
        "fusionlib/images.py": "MODE = 'L'\n",
        "data/splits/Synthetic.csv": "name\n01\n",
        "data/paper/table1.csv": "method\nours\n",
        "data/weights/full.safetensors": "weights",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    write_notebook(root, "from fusionlib import images\nlimit = 1")
    monkeypatch.setattr(pipeline, "ROOT", root)
    return root


def write_notebook(root, code, text="# Comparison"):
    (root / "notebooks").mkdir(exist_ok=True)
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / f"notebooks/{STEM}.ipynb")


@pytest.fixture
def run(tmp_path, repository, monkeypatch):
    weights = repository / "data/weights/full.safetensors"
    monkeypatch.setattr(runs, "SHIPPED", weights)
    parts = {"Synthetic": {"train": [], "val": [], "test": []}}
    return runs.Run("quick", tmp_path, parts, "embedded", weights, tmp_path / "out", "cpu", 0)


def finish_step(run, files, stem=STEM):
    """Write files and the record that the pipeline would leave of a step."""
    for name, content in files.items():
        path = run.out_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    given = {"preset": "quick", "encoder": "embedded", "weights": None, "device": "cpu", "seed": 0}
    inputs = {"parameters": given, "code": pipeline.code_hash()}
    written = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    record = run.folder("notebooks") / f"{stem}.json"
    record.write_text(json.dumps({"written": written, "inputs": inputs}))


def copy_notebook(root, stem):
    shutil.copy(root / f"notebooks/{STEM}.ipynb", root / f"notebooks/{stem}.ipynb")


def names(root, paths):
    return {path.relative_to(root).as_posix() for path in paths}


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def published(run, repository):
    finish_step(run, FILES)
    assert names(repository, publish(run, [STEM], repository)) == FILES.keys()
    return repository


def record_of(root):
    return json.loads((root / "tables/synthetic" / RECORD).read_text())


def test_what_a_notebook_wrote_is_published_with_its_record(published):
    assert problems(published) == []
    record = record_of(published)
    step = record["steps"][STEM]
    weights = hashlib.sha256(b"weights").hexdigest()
    table = hashlib.sha256(b"table").hexdigest()
    assert record["files"] == {"compare.csv": {"sha256": table, "by": STEM}}
    assert set(step) == {"command", "commit", "date", "weights", "inputs"}
    assert set(step["inputs"]) == {
        f"notebooks/{STEM}.ipynb",
        "data/splits/Synthetic.csv",
        "data/paper/table1.csv",
        "data/weights/full.safetensors",
    }
    assert step["command"].startswith("FUSIONLIB_DATA=synthetic python -m paper --preset quick ")
    assert step["weights"] == {"file": "full.safetensors", "sha256": weights}
    assert str(published.parent) not in json.dumps(record)


@pytest.mark.parametrize(
    ("change", "content", "where"),
    [
        ("data/paper/table1.csv", "method\n", "figures/synthetic"),
        ("data/splits/Synthetic.csv", "name\n02\n", "tables/synthetic"),
        ("data/weights/full.safetensors", "others", "tables/synthetic"),
    ],
)
def test_r51_a_changed_input_is_found_and_how_to_renew_is_said(published, change, content, where):
    (published / change).write_text(content)
    found = [line for line in problems(published) if line.startswith(f"{where}:")]
    assert found == [
        f"{where}: what {STEM} wrote is older than {change}; "
        "renew: FUSIONLIB_DATA=synthetic python -m paper --publish"
    ]


def test_r51_changed_code_cells_are_found_but_not_imports_words_or_library_code(published):
    moved = "import numpy as np\nfrom paper.images import (\n    images,\n    more,\n)\nlimit = 1"
    write_notebook(published, moved, "# Other words")
    (published / "fusionlib/images.py").write_text("MODE = 'RGB'\n")
    assert problems(published) == []
    write_notebook(published, moved.replace("1", "2"))
    assert len(problems(published)) == 3 and f"{STEM}.ipynb" in problems(published)[0]


def test_r51_changed_values_make_the_report_old(published, run):
    values = {"tables/synthetic/compare_values.csv": b"0.5", **FILES}
    finish_step(run, values)
    finish_step(run, {"tables/synthetic/numbers.csv": b"verdict"}, "08_report")
    copy_notebook(published, "08_report")
    publish(run, [STEM, "08_report"], published)
    assert problems(published) == []
    finish_step(run, values | {"tables/synthetic/compare_values.csv": b"0.6"})
    publish(run, [STEM], published)
    (line,) = problems(published)
    assert "what 08_report wrote is older than tables/synthetic/compare_values.csv" in line


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda f: (f / "compare.csv").write_bytes(b"typed in"), f"is not what {STEM} wrote"),
        (lambda f: (f / "compare.csv").unlink(), "is recorded but gone"),
        (lambda f: (f / "new.csv").write_bytes(b"?"), "new.csv has no record"),
        (lambda f: (f / RECORD).write_text("{"), "compare.csv has no record"),
    ],
)
def test_p0_files_changed_by_hand_or_of_unknown_origin_are_found(published, spoil, problem):
    spoil(published / "tables/synthetic")
    (line,) = problems(published)
    assert problem in line


def test_publishing_again_changes_no_byte_even_at_another_commit(published, run, monkeypatch):
    before = contents(published)
    monkeypatch.setattr(provenance, "commit", lambda repository: "another")
    publish(run, [STEM], published)
    assert contents(published) == before
    finish_step(run, {**FILES, "tables/synthetic/compare.csv": b"other"})
    publish(run, [STEM], published)
    assert record_of(published)["steps"][STEM]["commit"] == "another"


def test_what_a_notebook_no_longer_writes_goes_and_what_others_wrote_stays(published, run):
    finish_step(run, {"tables/synthetic/other.csv": b"of 06"}, "06_generalise")
    copy_notebook(published, "06_generalise")
    publish(run, ["06_generalise"], published)
    finish_step(run, {"tables/synthetic/table1.csv": b"new name"})
    publish(run, [STEM], published)
    folder = published / "tables/synthetic"
    assert {p.name for p in folder.iterdir()} == {"other.csv", "table1.csv", RECORD}
    assert not (published / "figures/synthetic/chart.svg").exists()
    assert problems(published) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("checkout/fusionlib/images.py", f"fusionlib or paper: changed since {STEM} ran"),
        ("out/tables/synthetic/compare.csv", rf"compare\.csv: changed since {STEM} ran"),
        (f"out/notebooks/{STEM}.json", f"no record of a complete run of {STEM}"),
    ],
)
def test_code_or_results_changed_since_it_ran_are_not_published(
    run, repository, tmp_path, spoil, message
):
    finish_step(run, FILES)
    (tmp_path / spoil).write_bytes(b"edited")
    with pytest.raises(FusionError, match=message):
        publish(run, [STEM], repository)
    assert not (repository / "tables").exists()


def test_images_of_datasets_quick_looks_and_own_weights_are_never_published(
    published, run, tmp_path, monkeypatch
):
    before = contents(published)
    real = dataclasses.replace(run, preset="cpu", parts={"TNO": run.parts["Synthetic"]})
    files = {"figures/datasets/fig6.png": b"image", "tables/reference/table3.csv": b"all"}
    finish_step(real, files)
    assert names(published, publish(real, [STEM], published)) == {"tables/reference/table3.csv"}
    assert not (published / "figures/datasets").exists() and problems(published) == []
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"trained here")
    for other in (dataclasses.replace(real, preset="quick"), dataclasses.replace(run, weights=own)):
        with pytest.raises(FusionError, match="are not published"):
            publish(other, [STEM], published)
    tables = {path for path in before if "figures" not in path.parts}
    assert {path: path.read_bytes() for path in tables} == {path: before[path] for path in tables}
