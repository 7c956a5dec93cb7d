"""The report: what the page says of a run of drawn scenes, of a real one, and of an empty one."""

import re
import shutil
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest

from fusionlib.datasets import DATASETS, Pair
from fusionlib.files import REPOSITORY
from fusionlib.images import save_image
from fusionlib.weights import SHIPPED
from paper import report
from paper.run import Run

EVIL = "<script>document.title = 'run'</script> A_b & 5 %"
TAGS = {
    "hide-input": "SCAFFOLD = 1",
    "injected-parameters": "INJECTED = 1",
    "shown": "x = 1",
    "solution": "SOLVED = 2",
}


def write_notebook(path):
    new = nbformat.v4
    shown = new.new_output("display_data", {report.WIDGET: {"model_id": "m"}, "text/plain": "w"})
    table = new.new_output("stream", name="stdout", text="0.5 " * 100)
    cells = [
        new.new_markdown_cell("# Five\n\n$a_i < b$ and\n\n$$L = \\frac{1}{HW} \\tag{6}$$"),
        *(new.new_code_cell(code, metadata={"tags": [tag]}) for tag, code in TAGS.items()),
    ]
    cells[3].outputs = [shown, table]
    widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2}}
    nbformat.write(new.new_notebook(cells=cells, metadata={"widgets": widgets}), path)


def write_run(folder, dataset="Synthetic", parts=None):
    """A run in small: two pairs of unlike colours, and one executed notebook."""
    pairs = []
    for name, level in (("a & b", 0.2), ("second", 0.8)):
        ir, vi = np.full((40, 60), level), np.full((40, 60, 3), (level, 0.1, 0.5))
        files = [
            save_image(folder / "data" / kind / f"{name}.png", x)
            for kind, x in (("ir", ir), ("vi", vi))
        ]
        pairs.append(Pair(dataset, name, *files))
        save_image(folder / "results/ours" / dataset / f"{name}.png", ir)
    parts = {dataset: {"train": [], "val": [], "test": pairs}} if parts is None else parts
    preset = "quick" if dataset == "Synthetic" else "cpu"
    run = Run(preset, folder, parts, "embedded", SHIPPED, folder, "cpu", 0)
    path = run.folder("notebooks") / "05_compare.ipynb"
    write_notebook(path)
    return run, [SimpleNamespace(name="05_compare", output=path, seconds=12.34)]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Of a run on drawn scenes whose table has a method with a dangerous name."""
    run, steps = write_run(tmp_path_factory.mktemp("run with ä"))
    table = (REPOSITORY / "tables/synthetic/table1.html").read_text("utf-8")
    (run.tables() / "table1.html").write_text(table, encoding="utf-8")
    save_image(run.image_figures() / "fig4.png", np.zeros((30, 60)))
    (run.image_figures() / "fig4.md").write_text(f"Figure 4. Rows: {EVIL}.\n")
    return report.write_report(run, steps, ["7 <numbers> agree", "2 pictures differ"])


def section(page, name):
    """The page from this heading to the next one of its level."""
    return re.search(rf'<h2 id="{name}">.*?(?=<h2|</main>)', page, re.S)[0]


def test_nothing_in_any_page_points_to_another_machine(index):
    pages = "".join(page.read_text("utf-8") for page in sorted(index.parent.glob("*.html")))
    assert pages.count("<main>") == 2
    assert not re.search(r"""src=["']?(https?:)?//|@import|url\(|<script src|widget""", pages)
    assert not re.search(r"<(link|script)[^>]+(https?:)?//", pages)
    links = re.findall(r'href="(http[^"]+)"', pages)
    assert links == ["https://doi.org/10.3389/fnbot.2024.1521603"]  # asked only when clicked


def test_first_of_all_stands_what_the_committed_run_found(index):
    """Cell by cell of the committed tables, which are compared with README's results block."""
    page = index.read_text("utf-8")
    first = section(page, "answer")
    assert page.index('id="answer"') == page.index("id=")
    numbers = pd.read_csv(report.REFERENCE / "numbers.csv").query("method == 'ours'")
    assert re.findall(r'<td class="([a-z-]+)"><b>(\S+)</b> <span>(\S+)</span>', first) == [
        (row.verdict.replace(" ", "-"), f"{row.here:#.4g}", f"{row.paper:#.4g}")
        for row in numbers.itertuples()
    ]
    counts = [int((numbers["verdict"] == kind).sum()) for kind in list(report.KINDS)[:3]]
    assert "exceeds {}, agrees with {} and falls short of {}".format(*counts) in first
    table = re.findall(r'<th scope="row">([^<]+)</th>((?:<td class="number">\d+</td>)+)</tr>', page)
    beside = {method: [int(n) for n in re.findall(r"\d+", cells)] for method, cells in table}
    assert beside["ours"][:3] == counts and len(beside) == len(report.SHOWN)
    assert all(sum(found[:3]) == 30 for found in beside.values())
    assert len(re.findall('<td class="[eaf]', section(page, "leads"))) == 60


def test_the_page_says_what_ran_on_what_and_that_drawn_scenes_leave_the_answer(index):
    page = index.read_text("utf-8")
    here = section(page, "run")
    assert "the answer above stands" in here and "synthetic scenes" in here
    assert "EfficientNet-Lite0 (ImageNet, not CLIP)" in here
    assert "7 &lt;numbers&gt; agree." in here and "2 pictures differ." in here
    assert page.count("not testable here") <= 4  # the one on CLIP, where it is told
    claims = re.findall(r"<tr><th scope=\"row\">[^<]+</th><td><b class=\"verdict", page)
    assert len(claims) == len(pd.read_csv(report.REFERENCE / "claims.csv"))
    row = r'05_compare</a></td>\s*<td class="number">12.3</td>'
    assert re.search(row, section(page, "notebooks"))
    environment = section(page, "environment")
    for name in ("processor", "software", "commit", "written", "parameters"):
        assert re.search(rf"<dt>{name}</dt><dd>[^<]+</dd>", environment)
    assert str(index.parents[2]) not in page  # folders are private


def test_every_figure_stands_beside_the_papers_words_and_what_was_found(index):
    figures = pd.read_csv(report.PAPER_TABLES / "figures.csv", dtype=str)
    claims = pd.read_csv(report.REFERENCE / "claims.csv").set_index("claim")["verdict"]
    parts = section(index.read_text("utf-8"), "figures").split("<h3")[1:]
    assert len(parts) == len(figures) == 7
    for part, figure in zip(parts, figures.itertuples(), strict=True):
        assert f'id="fig{figure.figure}"' in part and f"“{figure.quote}”" in part
        assert f'alt="{figure.alt}"' in part
        (image,) = re.findall(r'<img src="([^"]+)"', part)
        assert (index.parent / image).stat().st_size > 0
        for claim in figure.claims.split("; "):
            text = claim.replace("'", "&#39;")
            assert re.search(rf"<i>{text}</i>: <b [^>]+>{claims[claim]}</b>", part)
    assert "The committed figure, of drawn scenes" not in parts[3]  # this run has its own


def test_r52_names_are_escaped_and_tables_keep_their_marks(index):
    page = index.read_text("utf-8")
    assert "<script>document" not in page
    assert "&lt;script&gt;document.title" in page and "A_b &amp; 5 %" in page
    tables = section(page, "tables")
    assert re.findall(r"<h3>(.*?)</h3>", tables) == [
        *(f"Table {number}" for number in (1, 2, 3, 4)),
        "Table 1, synthetic scenes",
    ]
    assert 'class="data row0 col5' in tables and "place1" in tables and "†" in tables
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_pages_of_notebooks_hide_scaffolding_and_solutions(index):
    page = (index.parent / "05_compare.html").read_text("utf-8")
    text = re.sub(r"<[^>]+>", "", page.split("<main>")[1])
    assert "x = 1" in text and not re.search("SCAFFOLD|INJECTED|SOLVED", text)
    assert page.count("<math") == 2 and "<mfrac>" in page and "$" not in page.split("<main>")[1]
    assert re.search(r"<mn>6</mn>", page)


@pytest.fixture
def real_run(tmp_path):
    """Of the committed values: what a run on all test pairs writes, without its pictures."""
    run, steps = write_run(
        tmp_path, "TNO", {name: {"test": []} for name in DATASETS if name != "Synthetic"}
    )
    shutil.copytree(report.REFERENCE, run.tables(), dirs_exist_ok=True)
    return run, steps


def test_a_real_run_has_its_own_verdict(real_run):
    run, steps = real_run
    for name in ("numbers", "claims"):
        frame = pd.read_csv(run.csv(name))
        frame.assign(verdict=frame["verdict"].iloc[0]).to_csv(run.csv(name), index=False)
    index = report.write_report(run, steps)
    page = index.read_text("utf-8")
    kinds = re.findall(r'<td class="([a-z-]+)">', section(page, "run"))
    assert len(kinds) == 30 and len(set(kinds)) == 1
    assert "This run." in section(page, "claims") and "does not hold" not in section(page, "claims")
    assert "The committed figure, of drawn scenes" in section(page, "figures")
    run.csv("claims").unlink()
    (index.parent / "old.html").write_text("of a notebook that is gone")
    page = report.write_report(run, steps).read_text("utf-8")
    assert "have not all run on these data" in section(page, "run")
    assert not (index.parent / "old.html").exists()


def test_a_report_that_fails_leaves_the_one_before(tmp_path, monkeypatch):
    run, steps = write_run(tmp_path)
    index = report.write_report(run, steps)
    before = index.read_bytes()
    monkeypatch.setattr(report, "_content", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write_report(run, steps)
    assert index.read_bytes() == before
    assert not list(tmp_path.glob(".report-*"))


def test_a_run_without_any_image_still_has_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "REFERENCE", tmp_path / "nothing committed")
    run, _ = write_run(tmp_path, parts={"Synthetic": {"test": []}})
    assert "there is no verdict" in report.write_report(run, []).read_text("utf-8")
