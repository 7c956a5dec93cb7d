import numpy as np
import pandas as pd
import pytest

from fusionlib import evaluation
from fusionlib.errors import DatasetError
from paper import tables

ROWS = [
    ("B", "1", "ours", "ag", 1.0), ("B", "2", "ours", "ag", 4.0),
    ("B", "1", "average", "ag", 0.5), ("B", "2", "average", "ag", 0.25),
    ("A", "x", "ours", "ag", 10.0), ("A", "x", "average", "ag", 20.0),
]  # fmt: skip


def frame(rows=ROWS):
    return pd.DataFrame(rows, columns=evaluation.COLUMNS)


def markdown(table, folder):
    """Cells of each line of the table, and the lines below."""
    text = tables.write_table(table, folder, "t", "note")[1].read_text()
    above, below = text.split("\n\n")
    lines = [line.strip("|").split(" | ") for line in above.splitlines() if "---" not in line]
    return [[cell.strip() for cell in line] for line in lines], below.splitlines()


def test_means_by_hand_in_the_order_asked_for():
    table = tables.mean_table(frame(), ["average", "ours"])
    keys = [("B", 2, "average"), ("B", 2, "ours"), ("A", 1, "average"), ("A", 1, "ours")]
    assert list(table.index) == keys
    assert table["ag"].tolist() == [0.375, 2.5, 20.0, 10.0]


def test_r49_a_missing_value_empties_the_mean_and_is_shown(tmp_path):
    rows = [*ROWS[:1], ("B", "2", "ours", "ag", np.nan), *ROWS[2:4]]
    table = tables.mean_table(frame(rows).assign(reason=["", "too small", "", ""]))
    assert np.isnan(table.loc[("B", 2, "ours"), "ag"])
    assert table.loc[("B", 2, "average"), "ag"] == 0.375
    lines, below = markdown(table, tmp_path)
    assert lines[1] == ["B", "2", "ours", "–"]
    assert below[1].endswith("undefined: B, ours, ag: 1 of 2 values undefined (too small).")


def test_r47_means_over_different_images_are_refused():
    with pytest.raises(ValueError, match="B, ag"):
        tables.mean_table(frame(ROWS[:3]))


def test_r52_names_in_a_table_and_below_it_are_not_taken_for_markdown(tmp_path):
    rows = [("A", "x", "a_b_|*c*", "ag", np.nan), ("A", "x", "$d$<e>", "ag", 2.0)]
    lines, below = markdown(tables.mean_table(frame(rows)), tmp_path)
    assert [line[2] for line in lines[1:]] == [r"a\_b\_\|\*c\*", r"\$d\$\<e\>"]
    assert r"A, a\_b\_\|\*c\*, ag: 1 of 1" in below[1]


def test_headings_arrows_and_the_best_come_from_the_registry(tmp_path):
    values = {"A": ((0.5, 300.0), (0.25, 200.0)), "B": ((0.125, 1.0), (0.25, 1.0))}
    rows = [
        (dataset, "x", method, metric, value)
        for dataset, both in values.items()
        for method, pair in zip(("ours", "other"), both, strict=True)
        for metric, value in zip(("qabf", "qcv"), pair, strict=True)
    ]
    lines, _ = markdown(tables.mean_table(frame(rows)), tmp_path)
    assert lines == [
        ["dataset", "n", "method", "Q_AB/F ↑", "Q_CV ↓"],
        ["A", "1", "ours", "**0.5000**", "300.00"],
        ["A", "1", "other", "0.2500", "**200.00**"],
        ["B", "1", "ours", "0.1250", "**1.00**"],
        ["B", "1", "other", "**0.2500**", "**1.00**"],
    ]


def test_an_empty_table_has_its_head(tmp_path):
    empty = pd.DataFrame(columns=["dataset", "method", "ag"]).set_index(["dataset", "method"])
    assert markdown(empty, tmp_path) == ([["dataset", "method", "Q_AG ↑"]], ["note"])


def test_values_come_back_exact_and_are_the_same_bytes_in_any_order(tmp_path):
    rows = [*ROWS, ("C", "001", "NA", "ag", 0.1 + 0.2), ("C", "002", "NA", "ag", np.nan)]
    written = frame(rows).assign(reason=[""] * 7 + ["too small, sorry"], files="007e10")
    one = evaluation.write_values(written, tmp_path / "one.csv")
    two = evaluation.write_values(written[::-1], tmp_path / "two.csv")
    assert one.read_bytes() == two.read_bytes()
    expected = written.sort_values(evaluation.COLUMNS[:-1], ignore_index=True)
    back = evaluation.read_values(one)
    pd.testing.assert_frame_equal(back, expected, check_dtype=False, check_exact=True)


def test_a_table_of_something_else_is_refused(tmp_path):
    (tmp_path / "v.csv").write_text("dataset,name,method,metric,value\nA,1,m,ag,high\n")
    with pytest.raises(DatasetError, match=r"v.csv"):
        evaluation.read_values(tmp_path / "v.csv")
