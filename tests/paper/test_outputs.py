import re
import subprocess

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from fusionlib.errors import NotebookError
from fusionlib.files import REPOSITORY
from fusionlib.images import save_image
from paper import outputs
from paper.teaching import WIDGET


@pytest.fixture(autouse=True)
def no_datasets(monkeypatch):
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    monkeypatch.setattr("fusionlib.datasets.REPOSITORY", REPOSITORY / "nothing")


def write(path, *sources):
    cells = [new_markdown_cell("# 1 · A", id="m"), *(new_code_cell(s, id="c") for s in sources)]
    for i, cell in enumerate(cells):
        cell.id = f"cell{i}"
    cells[1].metadata = {"tags": ["parameters"], "collapsed": False}
    nbformat.write(
        new_notebook(cells=cells, metadata={"language_info": {"name": "python", "version": "3"}}),
        path,
    )
    return path


SLIDER = """
from ipywidgets import IntSlider
from matplotlib import pyplot as plt
from paper.teaching import explore
def draw(k):
    figure, axis = plt.subplots(figsize=(1, 1))
    axis.bar([0], [k])
    return figure
explore(draw, k=IntSlider(3))
"""


def test_outputs_are_renewed_in_place_and_the_same_twice(tmp_path):
    path = write(tmp_path / "01_a.ipynb", "seed = 1", "print(seed)", SLIDER)
    outputs.renew_outputs(path)
    first = path.read_bytes()
    outputs.renew_outputs(path)
    assert path.read_bytes() == first
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata == outputs.METADATA
    _, parameters, printed, shown = notebook.cells
    assert parameters.metadata == {"tags": ["parameters"]}
    assert printed.outputs == [new_output("stream", name="stdout", text="1\n")]
    assert printed.execution_count == 2 and printed.metadata == {}
    controls, picture = (output.data for output in shown.outputs)
    assert set(controls) == {"text/plain"} and "k" in controls["text/plain"]
    assert set(picture) == {"text/plain", "image/png"}


def test_a_failing_cell_leaves_the_file_as_it_was(tmp_path):
    path = write(tmp_path / "01_a.ipynb", "seed = 1", "1 / 0")
    before = path.read_bytes()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        outputs.renew_outputs(path)
    assert path.read_bytes() == before


def test_stderr_is_refused():
    cell = new_code_cell(outputs=[new_output("stream", name="stderr", text="a warning")])
    with pytest.raises(NotebookError, match="a warning"):
        outputs.normalise(new_notebook(cells=[cell]))


def test_widgets_and_metadata_go():
    data = {WIDGET: {"model_id": "1"}, "text/plain": "(controls)"}
    shown = new_output("display_data", data, metadata={"image/png": {"width": 3}})
    notebook = new_notebook(cells=[new_code_cell(outputs=[shown])], metadata={"widgets": {}})
    outputs.normalise(notebook)
    assert notebook.cells[0].outputs[0] == new_output("display_data", {"text/plain": "(controls)"})
    assert notebook.metadata == outputs.METADATA


def test_images_of_the_datasets_cannot_get_in(tmp_path, monkeypatch):
    for kind, shape in (("ir", (8, 8)), ("vi", (8, 8, 3))):
        save_image(tmp_path / "TNO" / kind / "a.png", np.zeros(shape))
    monkeypatch.setenv("FUSIONLIB_DATA", str(tmp_path))
    path = write(tmp_path / "01_a.ipynb", "print(1)")
    before = path.read_bytes()
    with pytest.raises(NotebookError, match="FUSIONLIB_DATA=synthetic"):
        outputs.renew_outputs(path)
    assert path.read_bytes() == before


def test_with_the_drawn_scenes_outputs_are_renewed_where_there_are_datasets(tmp_path, monkeypatch):
    for kind, shape in (("ir", (8, 8)), ("vi", (8, 8, 3))):
        save_image(tmp_path / "data" / "images" / "TNO" / kind / "a.png", np.zeros(shape))
    monkeypatch.setattr("fusionlib.datasets.REPOSITORY", tmp_path)
    path = write(tmp_path / "01_a.ipynb", "import os; print(os.environ['FUSIONLIB_DATA'])")
    with pytest.raises(NotebookError, match="images of the datasets"):
        outputs.renew_outputs(path)
    monkeypatch.setenv("FUSIONLIB_DATA", "synthetic")
    outputs.renew_outputs(path)
    (printed,) = nbformat.read(path, as_version=4).cells[1].outputs
    assert printed.text == "synthetic\n"


def test_make_compares_and_renews_outputs_on_the_drawn_scenes():
    command = ["make", "-n", "outputs", "notebooks"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lines = done.stdout.replace("\\\n", "").splitlines()
    runs = [line for line in lines if re.search(r"--nbval|fusionlib\.outputs", line)]
    assert len(runs) == 3
    assert all(line.startswith("FUSIONLIB_DATA=synthetic ") for line in runs)
