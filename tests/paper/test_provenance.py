"""P0 and row 51: every committed figure and table says where it comes from, and is up to date."""

import dataclasses
import hashlib
import json

import nbformat
import pytest

from fusionlib.errors import FusionError
from paper import pipeline
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


def write_notebook(root, code="limit = 1", text="# Comparison", stem=STEM):
    (root / "notebooks").mkdir(exist_ok=True)
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / f"notebooks/{stem}.ipynb")


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


@pytest.fixture
def published(run, repository):
    finish_step(run, FILES)
    paths = publish(run, [STEM], repository)
    assert {path.relative_to(repository).as_posix() for path in paths} == FILES.keys()
    return repository


def test_what_a_notebook_wrote_is_published_with_its_record(published):
    assert problems(published) == []
    record = json.loads((published / "tables/synthetic" / RECORD).read_text())
    step = record["steps"][STEM]
    table, weights = (hashlib.sha256(data).hexdigest() for data in (b"table", b"weights"))
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
    assert str(published.parent) not in json.dumps(record)  # folders are private


def test_r51_a_changed_input_is_found_and_how_to_renew_is_said(published):
    for change in ("data/paper/table1.csv", "data/splits/Synthetic.csv"):
        (published / change).write_text("method\n")
    found = [line for line in problems(published) if line.startswith("tables/synthetic:")]
    assert found == [
        f"tables/synthetic: what {STEM} wrote is older than data/paper/table1.csv, "
        "data/splits/Synthetic.csv; renew: FUSIONLIB_DATA=synthetic python -m paper --publish"
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
    write_notebook(published, stem="08_report")
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
        (lambda f: (f / "compare.csv").unlink(), f"is not what {STEM} wrote"),
        (lambda f: (f / "new.csv").write_bytes(b"?"), "new.csv has no record"),
        (lambda f: (f / RECORD).write_text("{"), "compare.csv has no record"),
    ],
)
def test_p0_files_changed_by_hand_or_of_unknown_origin_are_found(published, spoil, problem):
    spoil(published / "tables/synthetic")
    (line,) = problems(published)
    assert problem in line


def test_what_a_notebook_no_longer_writes_goes_and_what_others_wrote_stays(published, run):
    finish_step(run, {"tables/synthetic/other.csv": b"of 06"}, "06_generalise")
    write_notebook(published, stem="06_generalise")
    publish(run, ["06_generalise"], published)
    finish_step(run, {"tables/synthetic/table1.csv": b"new name"})
    publish(run, [STEM], published)
    folder = published / "tables/synthetic"
    assert {p.name for p in folder.iterdir()} == {"other.csv", "table1.csv", RECORD}
    assert not (published / "figures/synthetic/chart.svg").exists()
    assert problems(published) == []


def test_code_or_results_changed_since_it_ran_are_not_published(run, repository):
    for spoil, message in {
        repository / "fusionlib/images.py": f"fusionlib or paper: changed since {STEM} ran",
        run.out_dir / "tables/synthetic/compare.csv": rf"compare\.csv: changed since {STEM} ran",
        run.out_dir / f"notebooks/{STEM}.json": f"no record of a complete run of {STEM}",
    }.items():
        finish_step(run, FILES)
        spoil.write_bytes(b"edited")
        with pytest.raises(FusionError, match=message):
            publish(run, [STEM], repository)
    assert not (repository / "tables").exists()


def test_images_of_datasets_quick_looks_and_own_weights_are_never_published(
    published, run, tmp_path
):
    real = dataclasses.replace(run, preset="cpu", parts={"TNO": run.parts["Synthetic"]})
    finish_step(real, {"figures/datasets/fig6.png": b"", "tables/reference/table3.csv": b"all"})
    (path,) = publish(real, [STEM], published)
    assert path == published / "tables/reference/table3.csv" and problems(published) == []
    assert not (published / "figures/datasets").exists()
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"trained here")
    for other in (dataclasses.replace(real, preset="quick"), dataclasses.replace(run, weights=own)):
        with pytest.raises(FusionError, match="are not published"):
            publish(other, [STEM], published)
