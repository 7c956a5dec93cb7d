"""P0 and row 51: every committed figure and table says where it comes from, and is up to date."""

import dataclasses
import hashlib
import json
import subprocess

import nbformat
import pytest

from fusionlib.errors import FusionError
from fusionlib.files import REPOSITORY
from paper import pipeline, provenance
from paper import run as runs
from paper.provenance import RECORD, problems, publish


def test_r51_committed_figures_and_tables_are_as_new_as_their_inputs():
    assert problems() == []


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout in small: one notebook, a module that it imports, data."""
    root = tmp_path / "checkout"
    for name in ("notebooks", "fusionlib", "data/splits", "data/weights", "data/paper"):
        (root / name).mkdir(parents=True)
    (root / "fusionlib/images.py").write_text("MODE = 'L'\n")
    (root / "data/splits/Synthetic.csv").write_text("name\n01\n")
    (root / "data/paper/table1.csv").write_text("method\nours\n")
    (root / "data/weights/full.safetensors").write_bytes(b"weights")
    write_notebook(root, "from fusionlib import images")
    monkeypatch.setattr(pipeline, "ROOT", root)
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    return root


def write_notebook(root, code, text="# Comparison"):
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), root / "notebooks/05_compare.ipynb")


@pytest.fixture
def run(tmp_path, repository, monkeypatch):
    weights = repository / "data/weights/full.safetensors"
    monkeypatch.setattr(runs, "SHIPPED", weights)
    split = {"train": [], "val": [], "test": []}
    return runs.Run(
        "quick", tmp_path, {"Synthetic": split}, "embedded", weights, tmp_path / "out", "cpu", 0
    )


def finish_step(run, files, stem="05_compare"):
    """Write files and the record that the pipeline would leave of a step."""
    for name, content in files.items():
        path = run.out_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    given = {
        "preset": "quick", "data_root": None, "encoder": "embedded", "weights": None,
        "out_dir": str(run.out_dir), "device": "cpu", "seed": 0,
    }  # fmt: skip
    inputs = {"parameters": given, "fusionlib": pipeline.code_hash()}
    inputs["environment"] = ["3.11.7 (main)", "2.14", "2.0", 1]
    record = run.folder("notebooks") / f"{stem}.json"
    written = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    record.write_text(json.dumps({"written": written, "inputs": inputs}))


FILES = {
    "tables/synthetic/compare.csv": b"table",
    "figures/synthetic/chart.svg": b"chart",
    "figures/fig1_network.svg": b"drawing",
}


@pytest.fixture
def published(run, repository):
    finish_step(run, FILES)
    publish(run, ["05_compare"], repository)
    return repository


def test_what_a_notebook_wrote_is_published_with_its_record(published):
    assert problems(published) == []
    record = json.loads((published / "tables/synthetic" / RECORD).read_text())
    step = record["steps"]["05_compare"]
    assert record["files"]["compare.csv"]["by"] == "05_compare"
    assert set(step["inputs"]) == {
        "notebooks/05_compare.ipynb",
        "data/splits/Synthetic.csv",
        "data/paper/table1.csv",
        "data/weights/full.safetensors",
    }
    assert step["command"].startswith("FUSIONLIB_DATA=synthetic python -m fusionlib paper ")
    weights = hashlib.sha256(b"weights").hexdigest()
    assert step["weights"] == {"file": "full.safetensors", "sha256": weights}
    assert set(step) == {"command", "commit", "weights", "inputs"}
    assert str(published.parent) not in json.dumps(record)


def test_what_was_changed_after_its_notebook_ran_is_not_published(run, repository):
    finish_step(run, FILES)
    (run.out_dir / "tables/synthetic/compare.csv").write_bytes(b"edited")
    with pytest.raises(FusionError, match=r"compare\.csv: changed since 05_compare wrote it"):
        publish(run, ["05_compare"], repository)


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
        f"{where}: what 05_compare wrote is older than {change}; "
        "renew: FUSIONLIB_DATA=synthetic make paper"
    ]


def test_r51_a_changed_code_cell_is_found(published):
    write_notebook(published, "from fusionlib import images\nlimit = 2")
    assert len(problems(published)) == 3 and "05_compare.ipynb" in problems(published)[0]


def test_r51_changed_values_make_the_report_old(published, run):
    values = {"tables/synthetic/compare_values.csv": b"0.5", **FILES}
    finish_step(run, values)
    finish_step(run, {"tables/synthetic/numbers.csv": b"verdict"}, "08_report")
    write = published / "notebooks/08_report.ipynb"
    write.write_bytes((published / "notebooks/05_compare.ipynb").read_bytes())
    publish(run, ["05_compare", "08_report"], published)
    assert problems(published) == []
    finish_step(run, values | {"tables/synthetic/compare_values.csv": b"0.6"})
    publish(run, ["05_compare"], published)
    (line,) = problems(published)
    assert "what 08_report wrote is older than tables/synthetic/compare_values.csv" in line


def test_other_words_and_other_library_code_leave_the_records_valid(published):
    write_notebook(published, "from fusionlib import images", "# Other words")
    (published / "fusionlib/images.py").write_text("MODE = 'RGB'\n")
    assert problems(published) == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda f: (f / "compare.csv").write_bytes(b"typed in"), "is not what 05_compare wrote"),
        (lambda f: (f / "compare.csv").unlink(), "is recorded but gone"),
        (lambda f: (f / "new.csv").write_bytes(b"?"), "new.csv has no record"),
        (lambda f: (f / RECORD).write_text("{"), "compare.csv has no record"),
    ],
)
def test_p0_files_changed_by_hand_or_of_unknown_origin_are_found(published, spoil, told):
    spoil(published / "tables/synthetic")
    (line,) = problems(published)
    assert told in line


def test_publishing_again_changes_no_byte_even_at_another_commit(published, run, monkeypatch):
    before = {p: p.read_bytes() for p in published.rglob("*") if p.is_file()}
    monkeypatch.setattr(provenance, "commit", lambda repository: "another")
    publish(run, ["05_compare"], published)
    assert {p: p.read_bytes() for p in published.rglob("*") if p.is_file()} == before
    finish_step(run, {**FILES, "tables/synthetic/compare.csv": b"other"})
    publish(run, ["05_compare"], published)
    record = json.loads((published / "tables/synthetic" / RECORD).read_text())
    assert record["steps"]["05_compare"]["commit"] == "another"


def test_what_a_notebook_no_longer_writes_goes_and_what_others_wrote_stays(published, run):
    finish_step(run, {"tables/synthetic/other.csv": b"of 06"}, "06_generalise")
    write = published / "notebooks/06_generalise.ipynb"
    write.write_bytes((published / "notebooks/05_compare.ipynb").read_bytes())
    publish(run, ["06_generalise"], published)
    finish_step(run, {"tables/synthetic/table1.csv": b"new name"})
    publish(run, ["05_compare"], published)
    folder = published / "tables/synthetic"
    assert {p.name for p in folder.iterdir()} == {"other.csv", "table1.csv", RECORD}
    assert not (published / "figures/synthetic/chart.svg").exists()
    assert problems(published) == []


def test_code_that_changed_while_it_ran_is_not_published(run, repository):
    finish_step(run, FILES)
    (repository / "fusionlib/images.py").write_text("MODE = 'RGB'\n")
    with pytest.raises(FusionError, match="changed while 05_compare ran"):
        publish(run, ["05_compare"], repository)
    assert not (repository / "tables").exists()


def test_a_step_without_record_is_an_error(run, repository):
    with pytest.raises(FusionError, match="no record of a complete run of 05_compare"):
        publish(run, ["05_compare"], repository)


def test_images_of_datasets_and_quick_looks_stay_apart(run, repository):
    real = runs.Run(
        "quick", run.root, {"TNO": run.parts["Synthetic"]}, "embedded", run.weights, run.out_dir,
        "cpu", 0,
    )  # fmt: skip
    (repository / "data/splits/TNO.csv").write_text("name\n01\n")
    finish_step(real, {"figures/datasets/fig6.png": b"image", "tables/quick/table3.csv": b"few"})
    names = {
        p.relative_to(repository).as_posix() for p in publish(real, ["05_compare"], repository)
    }
    assert names == {"figures/datasets/fig6.png", "tables/quick/table3.csv"}
    (repository / "tables/quick/table3.csv").write_bytes(b"changed")
    assert problems(repository) == []  # git ignores it


def test_results_of_own_weights_replace_nothing_that_is_committed(published, run, tmp_path):
    before = {p: p.read_bytes() for p in published.rglob("*") if p.is_file()}
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"trained here")
    mine = dataclasses.replace(run, weights=own)
    files = {"tables/own/compare.csv": b"mine", "figures/own/chart.svg": b"mine"}
    finish_step(mine, files | {"figures/fig1_network.svg": b"drawing"})
    names = {p.relative_to(published).as_posix() for p in publish(mine, ["05_compare"], published)}
    assert names == {*files, "figures/fig1_network.svg"}
    assert {p: p.read_bytes() for p in before} == before
    (published / "tables/own/compare.csv").write_bytes(b"changed")
    assert problems(published) == []  # git ignores it


def test_git_ignores_what_is_not_to_be_committed():
    names = [f"{top}/{name}/x" for top in provenance.FOLDERS for name in ("own", "quick")]
    command = ["git", "-C", str(REPOSITORY), "check-ignore", "--no-index", *names]
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    assert subprocess.run(command, capture_output=True, text=True).stdout.split() == names
