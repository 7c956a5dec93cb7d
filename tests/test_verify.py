"""`python -m fusionlib paper --verify`: a number that its values do not give is found."""

import numpy as np
import pandas as pd
import pytest

from fusionlib import claims, tables, verify
from fusionlib.errors import FusionError
from fusionlib.metrics import METRICS
from fusionlib.statistics import summarise


@pytest.fixture
def repository(tmp_path):
    """Values, statistics and tables of the four kinds, as the notebooks write them."""
    folder = tmp_path / "tables" / "synthetic"
    folder.mkdir(parents=True)
    for number, (stem, source) in enumerate(verify.SOURCES.items()):
        rng = np.random.default_rng(number)
        rows = [
            ("Synthetic", name, method, metric, rng.uniform(0.1, 1), "", "")
            for name in "abcdefgh"
            for method in (source.ours, "without_cii", "without_cff", "without_both", "other_image")
            for metric in METRICS
        ]
        frame = pd.DataFrame(rows, columns=[*tables.COLUMNS, *tables.ORIGIN])
        tables.write_values(frame, folder / f"{stem}.csv")
        summary = summarise(frame, ours=source.ours).set_index(["dataset", "metric"])
        tables.write_table(summary, folder, source.statistics, "note")
        for name in source.means:
            tables.write_table(tables.mean_table(frame), folder, name, "note")
    numbers = claims.judge_numbers(claims.read_statistics(folder))
    tables.write_table(numbers.set_index(["dataset", "table"]), folder, "numbers", "note")
    return tmp_path


def test_tables_that_fit_their_values_are_found_equal(repository):
    count, wrong = verify.verify_tables(repository)
    assert wrong == [] and count > 1000


@pytest.mark.parametrize(
    "name", ["compare", "table3", "statistics", "encoder_statistics", "table4", "numbers"]
)
def test_a_number_typed_into_a_table_is_found(repository, name):
    path = repository / "tables/synthetic" / f"{name}.csv"
    frame = pd.read_csv(path, float_precision="round_trip")
    column = next(c for c in ("qabf", "mean", "paper") if c in frame)
    frame.loc[1, column] += 1e-6
    frame.to_csv(path, index=False)
    (line,) = verify.verify_tables(repository)[1]
    assert line.startswith(f"tables/synthetic/{name}.csv")


def test_a_changed_value_of_an_image_is_found_in_all_that_came_from_it(repository):
    path = repository / "tables/synthetic/compare_values.csv"
    frame = tables.read_values(path)
    frame.loc[0, "value"] += 0.01
    tables.write_values(frame, path)
    wrong = verify.verify_tables(repository)[1]
    named = {line.split("/")[2].split(":")[0] for line in wrong}
    assert {"compare.csv", "statistics.csv", "table1.csv", "table2.csv"} <= named
    assert not {"table3.csv", "table4.csv", "encoder.csv"} & named


def test_reported_rows_must_be_those_of_data_paper(repository):
    path = repository / "tables/synthetic/table1.csv"
    frame = pd.read_csv(path, float_precision="round_trip").assign(row="measured")
    line = frame.iloc[[0]].assign(dataset="MSRS", method="ours", row="reported", n=np.nan)
    line[["qabf", "qcv", "ssim", "ag", "vif", "scd"]] = 0.6667, 327.5, 1.3823, 3.531, 0.4601, 1.7657
    pd.concat([frame, line.drop(columns="viff")]).to_csv(path, index=False)
    wrong = verify.verify_tables(repository)[1]
    assert [text for text in wrong if "qabf" in text] == [
        "tables/synthetic/table1.csv: MSRS, qabf, ours: 0.6667, but data/paper gives 0.6666"
    ]


def test_values_of_unknown_use_and_missing_values_are_said(repository):
    folder = repository / "tables/synthetic"
    (folder / "other_values.csv").write_bytes((folder / "compare_values.csv").read_bytes())
    (line,) = verify.verify_tables(repository)[1]
    assert "other_values.csv: no table is known" in line
    with pytest.raises(FusionError, match="no per-image values"):
        verify.verify_tables(folder)
