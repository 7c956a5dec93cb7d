"""Tables: means, places, marks, rules, escaping, and that all files of a table agree."""

import html
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from fusionlib import evaluation
from fusionlib.errors import DatasetError
from paper import tables
from paper.tables import CELLS, MEASURED, REPORTED, PaperTable, as_html, as_latex, find_places

ROWS = [
    ("B", "1", "ours", "ag", 1.0), ("B", "2", "ours", "ag", 4.0),
    ("B", "1", "average", "ag", 0.5), ("B", "2", "average", "ag", 0.25),
    ("A", "x", "ours", "ag", 10.0), ("A", "x", "average", "ag", 20.0),
]  # fmt: skip
NAN = np.nan
HOSTILE = "a_b%&<script>alert(1)</script>|{x}$~^\\#"


def values(rows=ROWS):
    return pd.DataFrame(rows, columns=evaluation.COLUMNS)


def plain_markdown(table, folder):
    """Cells of each line of the table, and the lines below."""
    text = tables.write_table(table, folder, "t", "note")[1].read_text()
    above, below = text.split("\n\n")
    lines = [line.strip("|").split(" | ") for line in above.splitlines() if "---" not in line]
    return [[cell.strip() for cell in line] for line in lines], below.splitlines()


def test_means_by_hand_in_the_order_asked_for_and_of_the_same_images_only():
    table = tables.mean_table(values(), ["average", "ours"])
    keys = [("B", 2, "average"), ("B", 2, "ours"), ("A", 1, "average"), ("A", 1, "ours")]
    assert list(table.index) == keys
    assert table["ag"].tolist() == [0.375, 2.5, 20.0, 10.0]
    with pytest.raises(ValueError, match="B, ag"):
        tables.mean_table(values(ROWS[:3]))


def test_r49_a_missing_value_empties_the_mean_and_is_shown(tmp_path):
    rows = [*ROWS[:1], ("B", "2", "ours", "ag", NAN), *ROWS[2:4]]
    table = tables.mean_table(values(rows).assign(reason=["", "too small", "", ""]))
    assert np.isnan(table.loc[("B", 2, "ours"), "ag"])
    assert table.loc[("B", 2, "average"), "ag"] == 0.375
    lines, below = plain_markdown(table, tmp_path)
    assert lines[1] == ["B", "2", "ours", "–"]
    assert below[1].endswith("undefined: B, ours, ag: 1 of 2 values undefined (too small).")


def test_headings_arrows_titles_and_the_best_come_from_the_registry(tmp_path):
    numbers = {"A": ((0.5, 300.0), (0.25, 200.0)), "B": ((0.125, 1.0), (0.25, 1.0))}
    rows = [
        (dataset, "x", method, metric, value)
        for dataset, both in numbers.items()
        for method, pair in zip(("letter", "average"), both, strict=True)
        for metric, value in zip(("qabf", "qcv"), pair, strict=True)
    ]
    lines, _ = plain_markdown(tables.mean_table(values(rows)), tmp_path)
    assert lines == [
        ["dataset", "n", "method", "Q_AB/F ↑", "Q_CV ↓"],
        ["A", "1", "ours, to the letter", "**0.5000**", "300.00"],
        ["A", "1", "Average", "0.2500", "**200.00**"],
        ["B", "1", "ours, to the letter", "0.1250", "**1.00**"],
        ["B", "1", "Average", "**0.2500**", "**1.00**"],
    ]


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


# ---- tables of the paper


def cell(method, metric, value, *, row=MEASURED, dataset="A", group="paper", **more):
    values = {"low": NAN, "high": NAN, "p": NAN} | more
    n = 20.0 if row == MEASURED else NAN
    return (dataset, n, group, method, row, metric, value, *values.values())


def frame(*rows):
    return pd.DataFrame(rows, columns=CELLS)


def table(*rows, titles=(), notes=()):
    return PaperTable(frame(*rows), 1, "Caption", dict(titles), notes)


def markdown(made):
    """Cells of each row below the head."""
    lines = [line for line in tables.as_markdown(made).splitlines() if line.startswith("|")]
    return [[text.strip() for text in line[1:-1].split(" | ")] for line in lines[2:]]


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


def test_a_number_has_place_and_dagger_and_its_interval_below():
    made = table(
        cell("a", "qcv", 123.456, low=100.0, high=150.04, p=0.0499),
        cell("ours", "qcv", 200.0, low=190.0, high=210.0),
        cell("b", "qcv", 300.0, low=290.0, high=310.0, p=0.05),
    )
    below = ["", "", "<sub>95 % interval</sub>", ""]
    assert markdown(made) == [
        ["A", "a", "measured", "20", "**123.46†**"], [*below, "<sub>100.00…150.04</sub>"],
        ["", "ours", "measured", "20", "<ins>200.00</ins>"], [*below, "<sub>190.00…210.00</sub>"],
        ["", "b", "measured", "20", "*300.00*"], [*below, "<sub>290.00…310.00</sub>"],
    ]  # fmt: skip
    latex, page = as_latex(made), as_html(made)
    assert r"$Q_{CV}\downarrow$" in latex and r"{\tiny 100.00…150.04}" in latex
    assert r"\textcolor[HTML]{C00000}{\textbf{123.46\rlap{$^{\dagger}$}}}" in latex
    assert 'place1" >123.46†<' in page and 'interval" >100.00…150.04<' in page


def test_reported_lines_are_grey_and_what_is_not_available_is_a_dash():
    made = table(
        cell("a", "qabf", NAN, row=REPORTED), cell("a", "qabf", 0.25),
        cell("ours", "qabf", 0.5, row=REPORTED), cell("ours", "qabf", NAN),
    )  # fmt: skip
    assert markdown(made) == [
        ["A", "a", "<sub>reported</sub>", "", "<sub>–</sub>"],
        ["", "", "measured", "20", "0.2500"],
        ["", "ours", "<sub>reported</sub>", "", "<sub>0.5000</sub>"],
        ["", "", "measured", "20", "–"],
    ]
    assert made.means()["n"].isna().tolist() == [True, False, True, False]


def test_rules_separate_groups_and_datasets():
    made = table(
        cell("a", "ag", 1.0, row=REPORTED), cell("a", "ag", 1.0),
        cell("b", "ag", 1.0, group="additional"),
        cell("c", "ag", 1.0, group="classical"),
        cell("a", "ag", 1.0, dataset="B"),
    )  # fmt: skip
    body = as_latex(made).split(r"\midrule", 1)[1]
    assert body.count(r"\cmidrule(l){2-5}  & ") == 2 and body.count(r"\midrule B & a") == 1
    assert as_html(made).count(' rule"') == 3 * 5


def test_r52_names_are_escaped_everywhere(tmp_path):
    made = table(cell(HOSTILE, "ag", 1.0, dataset="D_1&"), notes=["50 % <b>", "x_y"])
    page = as_html(made)
    assert "<script>" not in page and html.escape(HOSTILE) in page and "50 % &lt;b&gt;" in page
    latex = as_latex(made)
    assert (
        r"a\_b\%\&\textless{}script\textgreater{}alert(1)\textless{}/script\textgreater{}\textbar{}\{x\}\$"
        r"\textasciitilde{}\textasciicircum{}\textbackslash{}\#"
    ) in latex
    assert r"D\_1\&" in latex and r"50 \% \textless{}b\textgreater{}" in latex
    ((_, name, *others),) = markdown(made)
    assert name.startswith(r"a\_b%\&\<script\>") and r"\|{x}" in name and len(others) == 3
    plain = tables.mean_table(values([("A", "x", HOSTILE, "ag", NAN)]))
    ((*_, again, _),), below = (part[1:] for part in plain_markdown(plain, tmp_path))
    assert again == name and f"A, {name}, ag: 1 of 1" in below[0]


def test_all_four_files_hold_the_same_cells_and_the_page_is_well_formed(tmp_path):
    made = table(
        cell("a", "ag", 1 / 3, low=0.25, high=0.5),
        cell("ours", "ag", 0.125, low=0.1, high=0.2),
        titles={"a": "Method A"},
    )
    paths = tables.write_paper_table(made, tmp_path)
    assert [p.name for p in paths] == ["table1.csv", "table1.md", "table1.tex", "table1.html"]
    back = pd.read_csv(paths[0])
    assert back["ag"].tolist() == [1 / 3, 0.125] and back["n"].tolist() == [20, 20]
    assert back["method"].tolist() == ["a", "ours"]
    for path in paths[1:]:
        text = path.read_text("utf-8")
        assert "Method A" in text and "Caption" in text
        assert ("Table 1. Caption" in text) == (path.suffix != ".tex")  # LaTeX counts itself
        assert text.index("0.3333") < text.index("0.2500") < text.index("0.5000")
    assert not re.search(r"src=|href=|http|@import|url\(", text)  # nothing from elsewhere
    root = ElementTree.fromstring(re.sub(r"<meta [^>]*>", "", text.split("\n", 1)[1]))
    assert [len(row) for row in root.iter("tr")] == [5] * 5
