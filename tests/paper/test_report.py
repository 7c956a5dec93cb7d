"""The report as a stranger opens it: from the file system, offline, on a phone, by keyboard."""

import re
import shutil
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest

from fusionlib.datasets import Pair
from fusionlib.files import REPOSITORY
from fusionlib.images import save_image
from fusionlib.weights import SHIPPED
from paper import report
from paper import run as runs
from paper.claims import CLAIMS, HOLDS, NOT, PARTLY

EVIL = "<script>document.title = 'run'</script> A_b & 5 %"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def write_run(folder):
    """A run in small: two pairs of unlike colours, tables, one executed notebook."""
    pairs = []
    for name, level in (("a & b", 0.2), ("second", 0.8)):
        ir, vi = np.full((40, 60), level), np.full((40, 60, 3), (level, 0.1, 0.5))
        files = [
            save_image(folder / "data" / kind / f"{name}.png", x)
            for kind, x in (("ir", ir), ("vi", vi))
        ]
        pairs.append(Pair("Synthetic", name, *files))
        save_image(folder / "results/ours/Synthetic" / f"{name}.png", ir)
    parts = {"Synthetic": {"train": [], "val": [], "test": pairs}}
    run = runs.Run("quick", folder, parts, "embedded", SHIPPED, folder, "cpu", 0)
    values = {"n": 2, "qabf": [0.9, 0.1234567, np.nan], "qcv": [9.0, 100.5, 20.25]}
    frame = pd.DataFrame({"dataset": "Synthetic", "method": [EVIL, "ours", "none"]} | values)
    frame.to_csv(run.tables() / "table1.csv", index=False)
    claims = [("x > y", "Table 1", "0.5", "0.6", kind, EVIL) for kind in (HOLDS, NOT, NOT, PARTLY)]
    pd.DataFrame(claims, columns=CLAIMS).to_csv(run.tables() / "claims.csv", index=False)
    save_image(run.image_figures() / "fig4.png", np.zeros((30, 60)))
    new = nbformat.v4
    shown = new.new_output("display_data", {report.WIDGET: {"model_id": "m"}, "text/plain": "w"})
    table = new.new_output("stream", name="stdout", text="0.5 " * 100)
    cells = [
        new.new_markdown_cell("# Five\n\n$a_i < b$ and\n\n$$L = \\frac{1}{HW} \\tag{6}$$"),
        new.new_code_cell("x = 1", outputs=[shown, table], execution_count=1),
    ]
    widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2}}
    path = run.folder("notebooks") / "05_compare.ipynb"
    nbformat.write(new.new_notebook(cells=cells, metadata={"widgets": widgets}), path)
    return run, [SimpleNamespace(name="05_compare", output=path, seconds=12.34)]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    run, steps = write_run(tmp_path_factory.mktemp("run with ä"))
    return report.write_report(run, steps, ["7 <numbers> agree", "2 pictures differ"])


def test_nothing_in_any_page_points_to_another_machine(index):
    pages = [page.read_text("utf-8") for page in sorted(index.parent.glob("*.html"))]
    assert len(pages) == 2
    for page in pages:
        assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(""", page)
        assert "<script src" not in page and "widget" not in page


def test_r52_the_page_says_what_ran_counts_verdicts_and_escapes_names(index):
    page = index.read_text("utf-8")
    assert "7 &lt;numbers&gt; agree." in page.split("<h2")[2] and "2 pictures differ." in page
    assert "synthetic scenes" in page and "EfficientNet-Lite0 (ImageNet, not CLIP)" in page
    assert re.search(r'05_compare</a></td>\s*<td class="number">12.3</td>', page)
    counts = re.findall(r'<b>(\d)</b>\s*<span class="verdict (\w+)"', page)
    assert counts == [("1", "reproduced"), ("1", "partly"), ("2", "not")]
    table = page.split('id="table1"')[1]  # four decimals; the rest in CSV
    cells = re.findall(r'<td class="number">(.*?)</td>', table)
    assert cells[:9] == ["2", "0.9000", "9.0000", "2", "0.1235", "100.5000", "2", "–", "20.2500"]
    assert "<script>document" not in page
    assert "&lt;script&gt;document.title" in page and "A_b &amp; 5 %" in page


def test_first_of_all_stands_what_the_committed_run_found(index):
    """Cell by cell what README's results block says, which is compared with the tables."""
    first = index.read_text("utf-8").split("<h2")[1]
    verdicts = re.findall(r'<td class="(exceeds|agrees|falls-short)">', first)
    assert len(verdicts) == 30
    readme = re.sub(r"\s+", " ", (REPOSITORY / "README.md").read_text("utf-8"))
    said = re.search(r"`full` exceeds (\d+), agrees with (\d+) .*? falls short of (\d+)", readme)
    counts = [verdicts.count(kind) for kind in ("exceeds", "agrees", "falls-short")]
    assert counts == [int(number) for number in said.groups()]
    assert "exceeds {}, agrees with {} and falls short of {}".format(*counts) in first
    assert re.search(r">TNO</th><td class=\"exceeds\">0\.5872 \(0\.5654\)<br>", first)


def test_formulas_are_mathml_with_their_number(index):
    page = (index.parent / "05_compare.html").read_text("utf-8")
    assert page.count("<math") == 2 and "<mfrac>" in page and "$" not in page.split("<main>")[1]
    assert re.search(r"<mn>6</mn>", page)


def test_a_report_replaces_the_one_before_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    run, steps = write_run(tmp_path)
    index = report.write_report(run, steps)
    (index.parent / "old.html").write_text("of a notebook that is gone")
    report.write_report(run, steps)
    assert not (index.parent / "old.html").exists()
    before = index.read_bytes()
    monkeypatch.setattr(report, "_content", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write_report(run, steps)
    assert index.read_bytes() == before
    assert not list(tmp_path.glob("report.*"))


def test_a_run_without_any_table_or_image_still_has_a_report(tmp_path):
    parts = {"Synthetic": {"train": [], "val": [], "test": []}}
    run = runs.Run("quick", tmp_path, parts, "embedded", SHIPPED, tmp_path, "cpu", 0)
    assert "there is no verdict" in report.write_report(run, []).read_text("utf-8")


@pytest.fixture
def open_page(index):
    """Opens a page in Chromium; whatever goes wrong there or is asked from elsewhere is kept."""
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def open_it(name="index.html", width=1280):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.wrong = []
            page.on("console", lambda message: page.wrong.append(message.text)
                    if message.type in ("error", "warning") else None)  # fmt: skip
            page.on("pageerror", lambda error: page.wrong.append(str(error)))
            page.on("request", lambda request: page.wrong.append(request.url)
                    if not request.url.startswith(("file:", "data:")) else None)  # fmt: skip
            page.on("requestfailed", lambda request: page.wrong.append(request.url))
            page.goto((index.parent / name).as_uri())
            return page

        yield open_it
        browser.close()


@pytest.mark.browser
def test_the_slider_moves_by_keyboard_and_the_scene_can_be_chosen(open_page):
    page = open_page()
    box = page.locator("#compare")
    assert box.locator("img").evaluate_all("all => all.every(i => i.complete && i.naturalWidth)")
    page.locator("#slide").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    clip = box.locator(".over").evaluate("image => getComputedStyle(image).clipPath")
    assert "60%" in clip
    page.select_option("#scene", label="Synthetic second")
    page.select_option("#left", label="visible")
    under, over = (box.locator(name) for name in (".under", ".over"))
    assert under.get_attribute("src") == "images/1_visible.png"
    assert over.get_attribute("src") == "images/1_fused.png"
    assert under.get_attribute("alt") == "Synthetic second, visible"
    assert page.title().startswith("Report") and page.wrong == []


@pytest.mark.browser
@pytest.mark.parametrize("name", ["index.html", "05_compare.html"])
def test_pages_fit_a_phone(open_page, name):
    page = open_page(name, width=375)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.wrong == []
