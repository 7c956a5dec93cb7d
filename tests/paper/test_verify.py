"""`python -m paper --verify`: a number that its values do not give is found in committed tables."""

import shutil

import pandas as pd
import pytest

from fusionlib import evaluation
from fusionlib.errors import FusionError
from fusionlib.files import REPOSITORY
from paper.tables import PART, REPORTED, SAME
from paper.verify import verify_tables

WHERE = "tables/synthetic"


@pytest.fixture
def folder(tmp_path):
    """A copy of committed tables, with the values they come from."""
    return shutil.copytree(REPOSITORY / WHERE, tmp_path / WHERE)


def wrong(folder):
    return verify_tables(folder.parents[1])[1]


def edit(folder, name, column, change, row=0):
    frame = pd.read_csv(folder / f"{name}.csv").astype({column: object})
    frame.loc[row, column] = change(frame.loc[row, column])
    frame.to_csv(folder / f"{name}.csv", index=False)


def test_tables_that_fit_their_values_are_found_equal(folder):
    count, found = verify_tables(folder.parents[1])
    assert found == [] and count > 1500
    with pytest.raises(FusionError, match="no per-image values"):
        verify_tables(folder)


def test_each_number_and_verdict_typed_into_a_table_is_found(folder):
    for name, column in {
        "compare": "qabf", "table3": "vif", "statistics": "mean", "table4": "n",
        "encoder_statistics": "low", "brightness": "contrast", "verdict": "reaches",
    }.items():  # fmt: skip
        edit(folder, name, column, lambda number: number + 1e-6, row=2)
    edit(folder, "numbers", "verdict", lambda text: "exceeds")
    edit(folder, "claims", "verdict", lambda text: "holds")
    edit(folder, "generalise_statistics", "p", lambda empty: 0.01)
    found = wrong(folder)
    assert len(found) == 10
    line = f"{WHERE}/numbers.csv: letter, LLVIP, qabf, verdict: exceeds, but its sources give"
    assert f"{line} not measured" in found


def test_a_changed_value_of_an_image_is_found_in_all_that_came_from_it(folder):
    path = folder / "compare_values.csv"
    frame = evaluation.read_values(path)
    frame.loc[(frame["method"] == "ours").idxmax(), "value"] += 0.01
    evaluation.write_values(frame, path)
    named = {line.split("/")[2].split(":")[0] for line in wrong(folder)}
    assert named == {"compare.csv", "statistics.csv", "table1.csv"}


def test_dropped_rows_missing_tables_and_values_of_unknown_use_are_found(folder):
    pd.read_csv(folder / "numbers.csv")[1:].to_csv(folder / "numbers.csv", index=False)
    (folder / "verdict.csv").unlink()
    shutil.copy(folder / "compare_values.csv", folder / "other_values.csv")
    named = [line.removeprefix(f"{WHERE}/").split(":")[0] for line in wrong(folder)]
    assert set(named) == {"numbers.csv", "other_values.csv", "verdict.csv"} and len(named) < 12
    (folder / "brightness_values.csv").unlink()
    assert "claims.csv: nothing to compute it from: no brightness_values" in "".join(wrong(folder))


def test_reported_rows_must_be_those_of_data_paper(folder):
    table = pd.read_csv(folder / "table1.csv")
    table.loc[len(table)] = ["LLVIP", "ours", REPORTED, None, 0.695, 272.6, *[None] * 4]
    table.to_csv(folder / "table1.csv", index=False)
    assert (
        f"{WHERE}/table1.csv: LLVIP, ours, reported, qcv: 272.6, but its sources give 272.64"
        in (found := wrong(folder))
    )
    assert not any("qabf" in line for line in found)


def test_a_variant_without_weights_has_no_number(folder):
    edit(folder, "table4", "qabf", lambda empty: 0.65)
    (found,) = wrong(folder)
    assert "Synthetic, without_cii, not trained by this recipe, qabf: 0.65" in found


def test_rows_of_a_part_of_the_pairs_come_from_its_values_and_ours_of_the_same(folder):
    values = evaluation.read_values(folder / "generalise_values.csv")
    values = values[values["name"] == "dusk_camp"]
    part = values.query("method == 'DATFuse'").assign(method="CDDFuse", value=values["value"] / 2)
    evaluation.write_values(part, folder / "generalise_parts.csv")
    table = pd.read_csv(folder / "table3.csv")
    for row, frame in ((PART, part), (SAME, values.query("method == 'ours'"))):
        means = frame.set_index("metric")["value"][table.columns[4:]]
        table.loc[len(table)] = ["Synthetic", "CDDFuse", row, 1, *means]
    table.to_csv(folder / "table3.csv", index=False)
    assert wrong(folder) == []
    edit(folder, "table3", "qabf", lambda number: round(number, 3), row=len(table) - 1)
    (found,) = wrong(folder)
    assert f"Synthetic, CDDFuse, {SAME}, qabf" in found
