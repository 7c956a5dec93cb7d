"""The paper from end to end on the drawn scenes: `make paper` of somebody without data."""

import json
import re

import nbformat
import pytest

from fusionlib.files import REPOSITORY, file_sha256
from paper.agreement import compare_tables
from paper.pipeline import CLOSING_LINE

# how long the run takes is for the machine to say
pytestmark = [pytest.mark.long, pytest.mark.timeout(0)]


@pytest.fixture
def executed(quick_run):
    """Name of each notebook, and the notebook."""
    folder = quick_run.folder / "notebooks"
    return {s: nbformat.read(folder / f"{s}.ipynb", as_version=4) for s in quick_run.stems}


def outputs(notebook):
    return [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]


def test_every_notebook_reaches_its_end_without_a_warning_and_shows_tables(executed):
    assert len(executed) == 9
    for stem, notebook in executed.items():
        assert not [o for o in outputs(notebook) if o.get("name") == "stderr"], stem
        assert f"{CLOSING_LINE} {stem}" in outputs(notebook)[-1].text
        assert any("text/html" in o.get("data", {}) for o in outputs(notebook)), stem


def test_what_a_notebook_lists_is_what_it_wrote(quick_run, executed):
    for stem, notebook in executed.items():
        record = json.loads((quick_run.folder / f"notebooks/{stem}.json").read_text("utf-8"))
        shown = {name for name in record["written"] if name.startswith(("figures/", "tables/"))}
        lines = outputs(notebook)[-1].text.splitlines()
        assert shown and shown == {s for s in lines if s.startswith(("figures/", "tables/"))}
        for name in shown:
            assert record["written"][name] == file_sha256(quick_run.folder / name)


def test_r73_a_run_changes_nothing_in_the_checkout(quick_run):
    assert quick_run.before == quick_run.after


def test_r73_the_end_says_where_everything_is_and_how_far_it_agrees(quick_run):
    end = quick_run.printed.partition("\ndata ")[2]
    assert "synthetic scenes" in end and "not CLIP" in end
    assert f"written  {quick_run.folder}" in end
    assert f"report   {quick_run.folder / 'report' / 'index.html'}" in end
    numbers, pictures = end.strip().splitlines()[-2:]
    assert re.match(r"[\d,]+ numbers and texts here have a counterpart in tables/syn", numbers)
    assert re.match(r"\d+ of \d+ pictures are the same", pictures)
    page = (quick_run.folder / "report/index.html").read_text("utf-8")
    assert "Agreement with the committed results" in page and pictures.split(";")[0] in page
    assert "committed reference run: of the paper's 30 numbers ours" in quick_run.printed


def test_every_number_comes_out_again_as_committed(quick_run):
    """On another machine they differ in the fourth digit, which must not fail."""
    here, committed = quick_run.folder / "tables/synthetic", REPOSITORY / "tables/synthetic"
    cells = compare_tables(here, committed, "*_values.csv")
    cells = cells.dropna(subset="here")  # DATFuse needs weights that may be missing here
    assert len(cells) > 300 and cells["relative"].notna().all()
    assert cells["relative"].quantile(0.99) < 0.01


def test_the_report_has_a_page_for_each_notebook_and_every_figure(quick_run):
    report = quick_run.folder / "report"
    assert {path.stem for path in report.glob("*.html")} == {"index", *quick_run.stems}
    page = (report / "index.html").read_text("utf-8")
    for number in range(4, 8):  # 1 to 3 come from notebooks that nbval runs
        assert f'<h3 id="fig{number}">' in page and f'src="fig{number}.png"' in page
    assert "The committed figure" not in page and "<h3>Table 4, synthetic scenes" in page
