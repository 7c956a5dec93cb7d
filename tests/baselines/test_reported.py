"""The paper's numbers as CSV, and folders of images made elsewhere."""

import math

import pytest

from fusionlib.baselines import METHODS
from fusionlib.baselines.reported import (
    COLUMNS,
    ELSEWHERE,
    OURS,
    PAPER_TABLES,
    read_reported,
    result_folders,
    results_root,
)
from fusionlib.datasets import DATASETS
from fusionlib.errors import DatasetError
from fusionlib.metrics import PAPER

HEAD = ",".join(COLUMNS)
COMPARED = ["MLFusion", "DATFuse", "LRRNet", "CHITNet", "IVFWSR", "TIMFusion"]  # DESIGN, section 4


def write(tmp_path, *lines):
    (tmp_path / "table1.csv").write_text("\n".join([HEAD, *lines, ""]))
    return tmp_path


def test_numbers_are_read_and_empty_cells_are_not_available(tmp_path):
    folder = write(tmp_path, "A,x,0.5,300,,2,0.25,1.5,page 7", "A, y ,,,,,,,")
    frame = read_reported(1, folder)
    assert list(frame["method"]) == ["x", "y"]
    first = frame.loc[0, list(PAPER)].tolist()
    assert [v for v in first if not math.isnan(v)] == [0.5, 300, 2, 0.25, 1.5]
    assert math.isnan(first[2]) and frame.loc[1, list(PAPER)].isna().all()
    assert frame["source"].tolist() == ["page 7", ""]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("A,x,0.5,high,1,2,0.2,1,s", r"table1.csv, line 2: qcv is 'high'"),
        ("A,x,1.5,300,1,2,0.2,1,s", "qabf is '1.5'; expected a number from 0 to 1"),
        ("A,x,nan,300,1,2,0.2,1,s", "qabf is 'nan'"),
        ("A,x,0.5,inf,1,2,0.2,1,s", "qcv is 'inf'"),
        ("A,x,0.5,300,1,2,0.2,1,", "the source of these numbers is missing"),
        ("A,,0.5,300,1,2,0.2,1,s", "dataset and method"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, told):
    with pytest.raises(DatasetError, match=told):
        read_reported(1, write(tmp_path, line))


def test_two_lines_of_one_method_and_other_columns_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="two lines for x on A"):
        read_reported(1, write(tmp_path, "A,x,,,,,,,", "A,x,,,,,,,"))
    (tmp_path / "table2.csv").write_text("dataset,method,qabf\nA,x,1\n")
    with pytest.raises(DatasetError, match=r"table2.csv: expected the columns dataset, method"):
        read_reported(2, tmp_path)
    with pytest.raises(DatasetError, match=r"table3.csv: cannot be read"):
        read_reported(3, tmp_path)


def test_the_committed_tables_have_a_line_for_every_method_of_the_paper():
    found = {}
    for number in (1, 2, 3):
        for dataset, lines in read_reported(number).groupby("dataset"):
            assert dataset not in found and list(lines["method"]) == [*COMPARED, OURS]
            found[dataset] = number
    assert set(found) == {name for name in DATASETS if name != "Synthetic"}
    assert found["TNO"] == 3
    assert set(COMPARED) == set(ELSEWHERE) | {n for n, m in METHODS.items() if m.group == "paper"}


def test_what_is_committed_says_where_it_comes_from():
    for number in (1, 2, 3, 4):
        frame = read_reported(number)
        is_filled = frame[list(PAPER)].notna().any(axis=1)
        assert is_filled.any() and (frame["source"] != "").eq(is_filled).all()
    ours = read_reported(4).set_index("method").loc["full", list(PAPER)]
    table1 = read_reported(1).set_index(["dataset", "method"])
    assert ours.tolist() == table1.loc[("MSRS", OURS), list(PAPER)].tolist()
    assert (PAPER_TABLES / "README.md").is_file()


def test_folders_of_results_are_found_by_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSIONLIB_RESULTS", str(tmp_path))
    for name in ("CHITNet", "another", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert result_folders() == {n: tmp_path / n for n in ("CHITNet", "another")}
    (tmp_path / "ours").mkdir()
    with pytest.raises(DatasetError, match="rename the folder"):
        result_folders()
    monkeypatch.setenv("FUSIONLIB_RESULTS", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match=r"FUSIONLIB_RESULTS: .*nowhere is no folder"):
        result_folders()
    monkeypatch.delenv("FUSIONLIB_RESULTS")
    assert results_root().parts[-2:] == ("data", "results")
