"""A stranger opens the report, on a screen and on a phone; a student runs 02_cii in JupyterLab."""

import itertools
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import nbformat
import pytest
from test_report import real_run, write_run  # noqa: F401 (a fixture)

from paper import report
from paper.pipeline import CLOSING_LINE

ROOT = Path(__file__).parents[2]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
CELLS_SECONDS = 3000  # for all cells; a minute on an idle machine
NOTEBOOK = ROOT / "notebooks" / "02_cii.ipynb"
PICTURES = ".jp-OutputArea-output img"

pytestmark = [pytest.mark.browser, pytest.mark.timeout(3600)]


@pytest.fixture
def lab(tmp_path):
    """Address of a notebook without outputs on the server of `make lab`, with this interpreter."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, tmp_path / NOTEBOOK.name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(8)
    made = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True).stdout
    command = re.search(r"jupyter (lab .*)", made).group(1)
    # windowing would take pictures that are scrolled out of sight out of the page
    settings = tmp_path / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    environment = os.environ | {
        "FUSIONLIB_DATA": "synthetic",
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
    }
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", *shlex.split(command), "--no-browser", "--allow-root",
             f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
             f"--IdentityProvider.token={token}"],
            cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(120):
                assert server.poll() is None, (tmp_path / "lab.log").read_text()
                with suppress(OSError):
                    urlopen(f"{address}/api?token={token}", timeout=5).close()
                    break
                time.sleep(1)
            yield f"{address}/lab/tree/{NOTEBOOK.name}?token={token}"
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def page(tmp_path):
    """An empty page; ``wrong`` is what fails there or is asked from another machine."""
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=CHROMIUM,
            args=FLAGS,
            viewport={"width": 1400, "height": 1000},
        )
        page = context.pages[0]
        page.set_default_timeout(120_000)
        page.wrong = []
        page.on("console", lambda message: page.wrong.append(message.text)
                if message.type in ("error", "warning") else None)  # fmt: skip
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("request", lambda request: page.wrong.append(request.url)
                if not request.url.startswith(("file:", "data:")) else None)  # fmt: skip
        page.on("requestfailed", lambda request: page.wrong.append(request.url))
        yield page
        context.close()


@pytest.mark.parametrize("kind", ["drawn", "real"])
def test_the_report_opens_whole_with_the_verdict_first(page, request, tmp_path, kind):
    """On a screen and on a phone, of drawn scenes and of the committed values of all pairs."""
    run = request.getfixturevalue("real_run") if kind == "real" else write_run(tmp_path)
    index = report.write_report(*run, ["agreement"])
    for width in (1366, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.goto(index.as_uri())
        cells = page.locator("#answer ~ .scroll >> nth=0").locator("td")
        assert cells.count() == 30
        last = cells.last.bounding_box()
        assert last["y"] + last["height"] <= 844 and last["x"] + last["width"] <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        images = page.locator("img")
        assert images.count() >= 7
        assert images.evaluate_all("all => all.every(i => i.complete && i.naturalWidth && i.alt)")
        headings = page.locator("h1, h2, h3, h4, h5, h6")
        levels = headings.evaluate_all("all => all.map(h => +h.tagName[1])")
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
        page.get_by_role("link", name="05_compare").click()
        assert page.locator("h1").inner_text() == "Five"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.wrong == []


def test_the_slider_moves_by_keyboard_and_the_scene_can_be_chosen(page, tmp_path):
    page.goto(report.write_report(*write_run(tmp_path)).as_uri())
    page.locator("#slide").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    under, over = (page.locator(f"#compare .{name}") for name in ("under", "over"))
    assert "60%" in over.evaluate("image => getComputedStyle(image).clipPath")
    page.select_option("#scene", label="Synthetic second")
    page.select_option("#left", label="visible")
    assert under.get_attribute("src") == "images/1_visible.png"
    assert over.get_attribute("src") == "images/1_fused.png"
    assert under.get_attribute("alt") == "Synthetic second, visible"
    assert page.wrong == []


def run_all_cells(page):
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    state = page.locator("#jp-main-statusbar")
    state.filter(has_text="Idle").wait_for()
    for _ in range(3):  # JupyterLab forgets what it was asked before the kernel was connected
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        with suppress(sys.modules["playwright.sync_api"].TimeoutError):
            state.filter(has_text="Busy").wait_for(timeout=20_000)
            break
    closing = page.locator(".jp-OutputArea-output", has_text=f"{CLOSING_LINE} 02_cii")
    error = page.locator("[data-mime-type='application/vnd.jupyter.error']")
    closing.or_(error).first.wait_for(timeout=1000 * CELLS_SECONDS)


def test_a_student_runs_the_notebook_and_moves_a_slider(page, lab):
    page.goto(lab)
    run_all_cells(page)
    for kind in ("error", "stderr"):
        wrong = page.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']")
        assert wrong.all_inner_texts() == []
    pictures = page.locator(PICTURES)
    shown = nbformat.read(NOTEBOOK, as_version=4)
    outputs = [output for cell in shown.cells for output in cell.get("outputs", ())]
    expected = sum("image/png" in output.get("data", {}) for output in outputs)
    assert pictures.count() == expected
    for i in range(expected):
        pictures.nth(i).scroll_into_view_if_needed()
        assert pictures.nth(i).is_visible()
        assert pictures.nth(i).evaluate("image => image.complete && image.naturalWidth > 200")
    sources = pictures.evaluate_all("images => images.map(image => image.src)")
    slider = page.locator(".widget-slider .noUi-handle")
    slider.scroll_into_view_if_needed()
    slider.press("ArrowRight")
    page.wait_for_function(
        "([query, last]) => [...document.querySelectorAll(query)].pop().src !== last",
        arg=[PICTURES, sources[-1]],
    )
