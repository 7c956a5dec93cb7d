"""How far the results of a run agree with the committed ones, on folders made by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from fusionlib.encoder import EMBEDDED
from fusionlib.images import save_image
from fusionlib.weights import SHIPPED
from paper.agreement import compare_run, compare_tables
from paper.run import Run

MEANS = pd.DataFrame(
    [("Synthetic", "DATFuse", 0.5, ""), ("Synthetic", "ours", 0.640625, "x")],
    columns=["dataset", "method", "qabf", "note"],
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


def test_r73_equal_results_agree_and_a_missing_file_or_row_is_counted(run, repository):
    assert lines(run, repository) == [
        "6 numbers and texts here have a counterpart in tables/synthetic: 6 agree to 6 digits, "
        "0 to 4",
        "1 of 1 pictures are the same",
    ]
    (run.tables() / "compare_values.csv").unlink()
    (run.image_figures() / "fig4.png").unlink()
    MEANS[:1].to_csv(run.csv("means"), index=False)
    numbers, pictures = compare_run(run, repository)
    assert numbers.startswith("2 numbers and texts here")
    assert "; 4 committed ones have none: 2 agree" in numbers
    assert pictures == "no picture here has a counterpart in figures/synthetic"


def test_r73_what_differs_is_named_and_by_how_much(run, repository):
    other = changed(changed(MEANS, "qabf", 0.6412), "note", "y")
    few = changed(VALUES, "value", 0.75001)
    picture = PICTURE + 1 / 255
    numbers, pictures = lines(run, repository, means=other, values=few, picture=picture)
    assert numbers.endswith(
        ": 3 agree to 6 digits, 1 to 4, 1 differ, at most by 0.09 % "
        "(means.csv, Synthetic, ours, qabf: 0.6412, committed 0.640625), 1 texts differ"
    )
    same = "0 of 1 pictures are the same; most differs fig4.png, "
    assert pictures == f"{same}1 grey levels in the mean"
    assert lines(run, repository, picture=PICTURE[:, 1:])[1] == f"{same}of another size"


def test_other_weights_leave_the_values_of_others(run, repository, tmp_path):
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"trained here")
    numbers, pictures = lines(dataclasses.replace(run, weights=own), repository, kind="own")
    assert numbers.startswith("other weights or another encoder, so only other methods; only")
    assert "images: 1 numbers and texts here" in numbers and "no picture" in pictures


@pytest.mark.parametrize(
    ("dataset", "preset", "kind"), [("TNO", "quick", "quick"), ("Synthetic", "cpu", "synthetic")]
)
def test_a_few_real_pairs_and_another_preset_leave_values_of_single_images(
    run, repository, dataset, preset, kind
):
    run = dataclasses.replace(run, parts={dataset: run.parts["Synthetic"]}, preset=preset)
    numbers, pictures = lines(run, repository, kind, means=changed(MEANS, "qabf", 1.0))
    assert "only values of single images: 2 numbers and texts here" in numbers
    assert numbers.endswith("2 agree to 6 digits, 0 to 4") and "no picture" in pictures


def test_another_image_of_a_few_pairs_is_not_compared_with_that_of_all(run, repository):
    """Its partner is the next pair, and of few pairs that is another one."""
    values = VALUES.replace("DATFuse", "other_image")
    values.to_csv(repository / "tables" / "reference" / "compare_values.csv", index=False)
    real = dataclasses.replace(run, parts={"TNO": run.parts["Synthetic"]})
    numbers, _ = lines(real, repository, "quick", values=values.assign(value=[0.9, 0.75]))
    assert "1 numbers and texts here" in numbers and "differ" not in numbers


def test_rows_of_one_name_and_cells_of_one_side_alone_stay_apart(tmp_path):
    for folder, numbers in (("here", [1.0, 2.0, 3.0]), ("committed", [1.0, 2.5])):
        (tmp_path / folder).mkdir()
        frame = pd.DataFrame({"part": "encoder", "value": numbers})
        frame.to_csv(tmp_path / folder / "t.csv", index=False)
    cells = compare_tables(tmp_path / "here", tmp_path / "committed").set_index("row")
    assert cells["relative"].tolist() == pytest.approx([0, 0.2, np.nan], nan_ok=True)
    assert pd.isna(cells.loc["encoder 2", "committed"])
