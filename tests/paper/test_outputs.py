import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from fusionlib.errors import NotebookError
from paper import outputs
from paper.teaching import WIDGET

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


def write(path, *sources):
    cells = [new_code_cell(source, id=f"cell{i}") for i, source in enumerate(sources)]
    cells[0].metadata = {"tags": ["parameters"], "collapsed": False}
    metadata = {"language_info": {"name": "python", "version": "3"}, "widgets": {}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def test_outputs_are_renewed_on_the_drawn_scenes_and_the_same_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSIONLIB_DATA", str(tmp_path))
    code = "import os; print(os.environ['FUSIONLIB_DATA'])"
    path = write(tmp_path / "01_a.ipynb", "seed = 1", code, SLIDER)
    outputs.renew_outputs(path)
    first = path.read_bytes()
    outputs.renew_outputs(path)
    assert path.read_bytes() == first
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata == outputs.METADATA
    parameters, printed, shown = notebook.cells
    assert parameters.metadata == {"tags": ["parameters"]}
    assert printed.outputs == [new_output("stream", name="stdout", text="synthetic\n")]
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


def test_widgets_and_metadata_go_and_stderr_is_refused():
    data = {WIDGET: {"model_id": "1"}, "text/plain": "(controls)"}
    shown = new_output("display_data", data, metadata={"image/png": {"width": 3}})
    notebook = new_notebook(cells=[new_code_cell(outputs=[shown])], metadata={"widgets": {}})
    outputs.normalise(notebook, "01_a")
    assert notebook.cells[0].outputs[0] == new_output("display_data", {"text/plain": "(controls)"})
    assert notebook.metadata == outputs.METADATA
    notebook.cells[0].outputs = [new_output("stream", name="stderr", text="a warning")]
    with pytest.raises(NotebookError, match="a warning"):
        outputs.normalise(notebook, "01_a")
