"""A new student: `make lab`, open 02_cii, run all cells, look at the pictures, move a slider."""

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

from paper.pipeline import CLOSING_LINE

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
CELLS_SECONDS = 3000  # for all cells; a minute on an idle machine
PICTURES = ".jp-OutputArea-output img"

pytestmark = [pytest.mark.browser, pytest.mark.timeout(3600)]


@pytest.fixture
def workplace(tmp_path):
    """The notebook without its outputs in a folder of its own: JupyterLab saves by itself."""
    notebook = nbformat.read(ROOT / "notebooks" / "02_cii.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "02_cii.ipynb")
    return tmp_path


@pytest.fixture
def lab(workplace):
    """Address of the server that `make lab` starts, here with this interpreter."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(8)
    made = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True).stdout
    command = re.search(r"jupyter (lab .*)", made).group(1)
    # windowing would take pictures that are scrolled out of sight out of the page
    settings = workplace / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    environment = os.environ | {"FUSIONLIB_DATA": "synthetic"}
    environment["JUPYTERLAB_SETTINGS_DIR"] = str(workplace / "settings")
    environment["JUPYTER_CONFIG_DIR"] = str(workplace / "config")
    log = (workplace / "lab.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter", *shlex.split(command), "--no-browser", "--allow-root",
         f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
         f"--IdentityProvider.token={token}"],
        cwd=workplace, env=environment, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            assert server.poll() is None, (workplace / "lab.log").read_text()
            try:
                urlopen(f"{address}/api?token={token}", timeout=5).close()
                break
            except OSError:
                time.sleep(1)
        yield f"{address}/lab/tree/notebooks/02_cii.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.fixture
def page(workplace):
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            str(workplace / "profile"),
            executable_path=CHROMIUM,
            args=FLAGS,
            viewport={"width": 1400, "height": 1000},
        )
        page = context.pages[0]
        page.set_default_timeout(120_000)
        yield page
        context.close()


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


def test_a_student_runs_the_notebook_and_moves_a_slider(page, lab, workplace):
    page.goto(lab)
    run_all_cells(page)
    for kind in ("error", "stderr"):
        wrong = page.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']")
        assert wrong.all_inner_texts() == []
    pictures = page.locator(PICTURES)
    shown = nbformat.read(ROOT / "notebooks" / "02_cii.ipynb", as_version=4)
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
    page.screenshot(path=os.environ.get("FUSIONLIB_SCREENSHOT", workplace / "lab.png"))
    slider.press("ArrowRight")
    page.wait_for_function(
        "([query, last]) => [...document.querySelectorAll(query)].pop().src !== last",
        arg=[PICTURES, sources[-1]],
    )
