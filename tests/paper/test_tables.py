"""Tables: means, places, marks, rules, escaping, and that all files of a table agree."""

import html

import numpy as np
import pandas as pd
import pytest

from fusionlib import evaluation
from fusionlib.errors import DatasetError
from fusionlib.files import REPOSITORY
from paper import tables
from paper.tables import CELLS, MEASURED, REPORTED, PaperTable, as_html, as_latex, find_places

ROWS = [
    ("B", "1", "ours", "ag", 1.0), ("B", "2", "ours", "ag", 4.0),
    ("B", "1", "average", "ag", 0.5), ("B", "2", "average", "ag", 0.25),
    ("A", "x", "ours", "ag", 10.0), ("A", "x", "average", "ag", 20.0),
]  # fmt: skip
NAN, REFERENCE = np.nan, REPOSITORY / "tables" / "reference"
HOSTILE = "a_b%&<script>alert(1)</script>|{x}$~^\\#"


def values(rows=ROWS):
    return pd.DataFrame(rows, columns=evaluation.COLUMNS)


def plain_markdown(table, folder):
    """Cells of each line of the table, and the lines below."""
    text = tables.write_table(table, folder, "t", "note")[1].read_text()
    above, below = text.split("\n\n")
    lines = [line.strip("|").split(" | ") for line in above.splitlines() if "---" not in line]
    return [[cell.strip() for cell in line] for line in lines], below.splitlines()


def assert_as_committed(path):
    """Byte by byte; but elsewhere a mean may be summed in another order."""
    committed = REFERENCE / path.name
    if path.suffix == ".csv":
        frames = pd.read_csv(path), pd.read_csv(committed)
        pd.testing.assert_frame_equal(*frames, rtol=1e-12, atol=0)
    else:
        assert path.read_bytes() == committed.read_bytes()


def test_means_by_hand_in_the_order_asked_for_and_of_the_same_images_only():
    table = tables.mean_table(values(), ["average", "ours"])
    keys = [("B", 2, "average"), ("B", 2, "ours"), ("A", 1, "average"), ("A", 1, "ours")]
    assert list(table.index) == keys
    assert table["ag"].tolist() == [0.375, 2.5, 20.0, 10.0]
    with pytest.raises(ValueError, match="B, ag"):
        tables.mean_table(values(ROWS[:3]))


def test_the_committed_means_come_out_again_byte_by_byte(tmp_path):
    """Headings, arrows, decimals and titles from the registry, the best bold, and the note."""
    committed = pd.read_csv(REFERENCE / "compare.csv", index_col=["dataset", "n", "method"])
    methods = list(committed.index.unique("method"))
    table = tables.mean_table(evaluation.read_values(REFERENCE / "compare_values.csv"), methods)
    note = (REFERENCE / "compare.md").read_text("utf-8").split("\n\n")[1].rstrip()
    for path in tables.write_table(table[committed.columns], tmp_path, "compare", note):
        assert_as_committed(path)


def test_r49_a_missing_value_empties_the_mean_and_is_shown(tmp_path):
    rows = [*ROWS[:1], ("B", "2", "ours", "ag", NAN), *ROWS[2:4]]
    table = tables.mean_table(values(rows).assign(reason=["", "too small", "", ""]))
    assert np.isnan(table.loc[("B", 2, "ours"), "ag"])
    assert table.loc[("B", 2, "average"), "ag"] == 0.375
    lines, below = plain_markdown(table, tmp_path)
    assert lines[1] == ["B", "2", "ours", "–"]
    assert below[1].endswith("undefined: B, ours, ag: 1 of 2 values undefined (too small).")


def test_values_come_back_exact_and_a_table_of_something_else_is_refused(tmp_path):
    rows = [*ROWS, ("C", "001", "NA", "ag", 0.1 + 0.2), ("C", "002", "NA", "ag", NAN)]
    written = values(rows).assign(reason=[""] * 7 + ["too small, sorry"], files="007e10")
    one, two = (evaluation.write_values(f, tmp_path / "v.csv").read_bytes()
                for f in (written, written[::-1]))  # fmt: skip
    assert one == two
    expected = written.sort_values(evaluation.COLUMNS[:-1], ignore_index=True)
    back = evaluation.read_values(tmp_path / "v.csv")
    pd.testing.assert_frame_equal(back, expected, check_dtype=False, check_exact=True)
    (tmp_path / "v.csv").write_text("dataset,name,method,metric,value\nA,1,m,ag,high\n")
    with pytest.raises(DatasetError, match=r"v.csv"):
        evaluation.read_values(tmp_path / "v.csv")


# ---- tables of the paper; the committed ones come out again in test_comparison.py


def cell(method, metric, value, *, row=MEASURED, dataset="A"):
    return (dataset, 20.0, "paper", method, row, metric, value, NAN, NAN, NAN)


def frame(*rows):
    return pd.DataFrame(rows, columns=CELLS)


def test_places_follow_the_direction_and_equal_values_share_one():
    cells = frame(
        *(cell(m, "qabf", v) for m, v in zip("abcde", (0.5, 0.7, 0.7, 0.6, NAN), strict=True)),
        *(cell(m, "qcv", v) for m, v in zip("abcde", (1.0, 2.0, 3.0, 4.0, 5.0), strict=True)),
        cell("a", "qabf", 0.9, row=REPORTED),
        cell("a", "qabf", 0.1, dataset="B"),
    )
    expected = [0, 1, 1, 3, 0, 1, 2, 3, 0, 0, 0, 0]
    assert find_places(cells).tolist() == expected
    assert find_places(cells.set_axis([0] * len(cells))).tolist() == expected  # joined tables


def test_leading_cells_are_counted_among_the_rivals_asked_for():
    cells = frame(
        cell("ours", "qabf", 0.5), cell("a", "qabf", 0.6), cell("b", "qabf", 0.7),
        cell("ours", "qcv", 9.0), cell("a", "qcv", 1.0), cell("b", "qcv", 20.0),
        cell("ours", "qabf", 0.9, row=REPORTED), cell("a", "qabf", 0.1, row=REPORTED),
    )  # fmt: skip
    counts = [tables.count_leading(cells, "ours", rivals) for rivals in ("ab", "a", "")]
    assert counts == [(1, 2), (2, 2), (0, 2)]  # without rival nobody leads


def test_r52_names_are_escaped_everywhere(tmp_path):
    cells = frame(cell(HOSTILE, "ag", 1.0, dataset="D_1&"))
    made = PaperTable(cells, 1, "Caption", {}, ["50 % <b>", "x_y"])
    page = as_html(made)
    assert "<script>" not in page and html.escape(HOSTILE) in page and "50 % &lt;b&gt;" in page
    latex = as_latex(made)
    assert (
        r"a\_b\%\&\textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{}\textbar{}\{x\}\$"
        r"\textasciitilde{}\textasciicircum{}\textbackslash{}\#"
    ) in latex
    assert r"D\_1\&" in latex and r"50 \% \textless{}b\textgreater{}" in latex
    line = tables.as_markdown(made).splitlines()[4]
    _, name, *others = (text.strip() for text in line[1:-1].split(" | "))
    assert name.startswith(r"a\_b%\&\<script\>") and r"\|{x}" in name and len(others) == 3
    plain = tables.mean_table(values([("A", "x", HOSTILE, "ag", NAN)]))
    ((*_, again, _),), below = (part[1:] for part in plain_markdown(plain, tmp_path))
    assert again == name and f"A, {name}, ag: 1 of 1" in below[0]
