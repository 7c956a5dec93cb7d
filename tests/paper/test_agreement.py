"""How far the results of a run agree with the committed ones, on folders made by hand."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from fusionlib.encoder import EMBEDDED
from fusionlib.files import file_sha256
from fusionlib.images import save_image
from fusionlib.weights import SHIPPED
from paper.agreement import compare_run, compare_tables
from paper.run import Run

MEANS = pd.DataFrame(
    {
        "dataset": ["Synthetic"] * 2,
        "method": ["DATFuse", "ours"],
        "qabf": [0.5, 0.640625],
        "note": ["", "x"],
    }
)
VALUES = pd.DataFrame(
    [("Synthetic", "a", m, "qabf", v, "f1") for m, v in (("DATFuse", 0.5), ("ours", 0.75))],
    columns=["dataset", "name", "method", "metric", "value", "files"],
)
PICTURE = np.tile(np.linspace(0.2, 0.8, 16), (8, 1))


def write(folder, kind, means=MEANS, values=VALUES, picture=PICTURE):
    for name, table in (("means", means), ("compare_values", values)):
        (folder / "tables" / kind).mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / "tables" / kind / f"{name}.csv", index=False)
    save_image(folder / "figures" / kind / "fig4.png", picture)


@pytest.fixture
def repository(tmp_path):
    for kind in ("synthetic", "reference"):
        write(tmp_path / "repository", kind)
        step = {
            "command": "python -m paper --preset quick --seed 0",
            "weights": {"sha256": file_sha256(SHIPPED)},
        }
        record = tmp_path / "repository/tables" / kind / "provenance.json"
        record.write_text(json.dumps({"steps": {"05_compare": step}}))
    return tmp_path / "repository"


@pytest.fixture
def run(tmp_path):
    parts = {"Synthetic": {"train": [], "val": [], "test": []}}
    return Run("quick", tmp_path, parts, EMBEDDED, SHIPPED, tmp_path / "out", "cpu", 0)


def lines(run, repository, kind="synthetic", **changed):
    write(run.out_dir, kind, **changed)
    return compare_run(run, repository)


def changed(frame, column, number):
    return frame.assign(**{column: [*frame[column][:-1], number]})


def test_r73_equal_results_agree_to_all_digits(run, repository):
    numbers, pictures = lines(run, repository)
    assert numbers == (
        "6 numbers and texts here have a counterpart in tables/synthetic: 6 agree to 6 digits"
    )
    assert pictures == "1 of 1 pictures are the same"


def test_r73_a_changed_number_is_named_and_by_how_much(run, repository):
    other = changed(changed(MEANS, "qabf", 0.6412), "note", "y")
    few = changed(VALUES, "value", 0.75001)
    numbers, _ = lines(run, repository, means=other, values=few)
    assert "3 agree to 6 digits, 1 agree to 4 digits" in numbers
    assert (
        "1 differ, at most by 0.09 % "
        "(means.csv, Synthetic, ours, qabf: 0.6412, committed 0.640625)" in numbers
    )
    assert numbers.endswith("1 texts differ")


def test_r73_a_picture_one_level_brighter_differs_by_one(run, repository):
    _, pictures = lines(run, repository, picture=PICTURE + 1 / 255)
    assert pictures.startswith("0 of 1 pictures are the same; grey levels")
    assert pictures.endswith("fig4.png 1")
    _, pictures = lines(run, repository, picture=PICTURE[:, 1:])
    assert pictures.endswith("fig4.png (another size)")


def test_r73_a_missing_file_or_row_is_counted(run, repository):
    lines(run, repository)
    (run.tables() / "compare_values.csv").unlink()
    (run.image_figures() / "fig4.png").unlink()
    MEANS[:1].to_csv(run.csv("means"), index=False)
    numbers, pictures = compare_run(run, repository)
    assert numbers.startswith("2 numbers and texts here") and "; 4 committed ones have none" in (
        numbers
    )
    assert pictures == "no picture here has a counterpart in figures/synthetic"


def test_other_weights_leave_the_methods_of_others(run, repository, tmp_path):
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"trained here")
    numbers, pictures = lines(dataclasses.replace(run, weights=own), repository, kind="own")
    assert numbers.startswith("other weights or another encoder")
    assert "1 numbers and texts here" in numbers and "no picture" in pictures


@pytest.mark.parametrize(("preset", "kind"), [("quick", "quick"), ("cpu", "reference")])
def test_a_few_real_pairs_and_another_preset_leave_values_of_single_images(
    run, repository, preset, kind
):
    parts = {"TNO": run.parts["Synthetic"]}
    real = dataclasses.replace(run, parts=parts, preset=preset)
    numbers, pictures = lines(real, repository, kind, means=changed(MEANS, "qabf", 1.0))
    assert "only values of single images: 2 numbers and texts here" in numbers
    assert numbers.endswith("2 agree to 6 digits") and "no picture" in pictures


def test_another_image_of_a_few_pairs_is_not_compared_with_that_of_all(run, repository):
    """Its partner is the next pair, and of few pairs that is another one."""
    values = VALUES.replace("DATFuse", "other_image")
    committed = repository / "tables" / "reference" / "compare_values.csv"
    values.to_csv(committed, index=False)
    real = dataclasses.replace(run, parts={"TNO": run.parts["Synthetic"]})
    numbers, _ = lines(real, repository, "quick", values=values.assign(value=[0.9, 0.75]))
    assert "1 numbers and texts here" in numbers and "differ" not in numbers
    values.to_csv(repository / "tables" / "synthetic" / "compare_values.csv", index=False)
    numbers, _ = lines(run, repository, values=values.assign(value=[0.9, 0.75]))
    assert "1 differ" in numbers  # the drawn scenes are all there


def test_rows_of_one_name_and_cells_of_one_side_alone_stay_apart(tmp_path):
    for folder, numbers in (("here", [1.0, 2.0, 3.0]), ("committed", [1.0, 2.5])):
        (tmp_path / folder).mkdir()
        frame = pd.DataFrame({"part": "encoder", "value": numbers})
        frame.to_csv(tmp_path / folder / "t.csv", index=False)
    cells = compare_tables(tmp_path / "here", tmp_path / "committed").set_index("row")
    assert cells["relative"].tolist() == pytest.approx([0, 0.2, np.nan], nan_ok=True)
    assert cells.loc["encoder 2", "committed"] != cells.loc["encoder 2", "committed"]  # missing
