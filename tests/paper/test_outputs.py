"""What the notebooks are committed with is what a run shows, and what the tables say."""

import base64
import io
import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from fusionlib.errors import NotebookError
from fusionlib.files import REPOSITORY
from paper import outputs
from paper.outputs import INSTEAD, PICTURES, TEACHING, take_outputs
from paper.pipeline import code_hash
from paper.teaching import WIDGET

NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
SAVED = re.compile(r'^run\.save\((\w+), "(\w+)"', re.M)


def parse(number):
    """Value, and one unit of its last digit."""
    mantissa, _, exponent = number.replace("−", "-").partition("e")
    return float(mantissa + "e" + (exponent or "0")), 10.0 ** (
        int(exponent or 0) - len(mantissa.partition(".")[2])
    )


def differences(old, new):
    """Where two texts differ by more than 1e-3 and the last digit of a number, or in words."""
    if NUMBER.sub("#", old) != NUMBER.sub("#", new):
        return [(old, new)]
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=True)
    found = [(a, b, *parse(a), parse(b)[0]) for a, b in pairs]
    return [(a, b) for a, b, x, unit, y in found if abs(x - y) > 1e-3 * abs(x) + 1.01 * unit]


def grey_levels(old, new):
    """Mean difference of two PNG in base64."""
    one, two = (np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), float)
                for png in (old, new))  # fmt: skip
    height, width, _ = np.minimum(one.shape, two.shape)
    assert np.abs(np.subtract(one.shape, two.shape)).max() <= 2  # another version of a font
    return np.abs(one[:height, :width] - two[:height, :width]).mean()


def numbers_beside(cell, folder):
    """Numbers that a cell shows of a table it saves, as far as the CSV of that name lacks them."""
    for variable, name in SAVED.findall(cell.source):
        html = "".join(o.get("data", {}).get("text/html", "") for o in cell.outputs)
        path = folder / f"{name}.csv"
        if not cell.source.splitlines()[-1].startswith(variable) or not path.is_file():
            continue
        saved = pd.read_csv(path).select_dtypes("number").to_numpy().ravel()
        for text in re.findall(r"<td>([-+]?\d+\.\d+)</td>", html):
            value, unit = parse(text)
            if not (np.abs(saved - value) <= 0.51 * unit).any():
                yield name, text


@pytest.mark.long
@pytest.mark.timeout(0)  # for the whole run of all notebooks
@pytest.mark.parametrize("stem", TEACHING)
def test_committed_outputs_come_out_again(quick_run, stem):
    committed, source = (
        nbformat.read(REPOSITORY / f"notebooks/{stem}.ipynb", as_version=4) for _ in range(2)
    )
    executed = nbformat.read(quick_run.folder / f"notebooks/{stem}.ipynb", as_version=4)
    made = take_outputs(source, executed)
    cells = [c for c in zip(committed.cells, made.cells, strict=True) if c[0].cell_type == "code"]
    for old, new in cells[1:]:  # the first one says which run the outputs come from
        if "nbval-ignore-output" in old.metadata.get("tags", ()):
            continue
        assert len(old.outputs) == len(new.outputs), old.source
        for one, two in zip(old.outputs, new.outputs, strict=True):
            assert not differences(one.get("text", ""), two.get("text", "")), old.source
            one, two = one.get("data", {}), two.get("data", {})
            assert one.keys() == two.keys()
            for kind in one.keys() - {"image/png"}:
                assert not differences(one[kind], two[kind]), old.source
            if "image/png" in one:
                assert grey_levels(one["image/png"], two["image/png"]) < 1, old.source


@pytest.mark.parametrize("path", sorted((REPOSITORY / "notebooks").glob("0[4-8]*")))
def test_committed_outputs_are_those_of_the_committed_tables(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert not list(numbers_beside(cell, REPOSITORY / "tables/reference"))


def test_a_number_that_is_in_no_table_is_found(tmp_path):
    pd.DataFrame({"method": ["a", "b"], "value": [0.12345, 20]}).to_csv(tmp_path / "means.csv")
    html = "<td>0.1235</td><td>20.0</td><td>0.1236</td>"
    shown = [new_output("execute_result", {"text/html": html})]
    cell = new_code_cell('run.save(means, "means")\nmeans.round(4)', outputs=shown)
    assert list(numbers_beside(cell, tmp_path)) == [("means", "0.1236")]


def test_what_counts_as_the_same():
    assert not differences("mean 1.000, 26 %", "mean 1.0009, 27 %")  # rounded either way
    for old, new in (("1.0000", "1.0021"), ("26 %", "28 %"), ("equal", "not equal"), ("3", "−3")):
        assert differences(f"channel {old}", f"channel {new}")


def notebooks(*executed_outputs, source="shown", tags=()):
    """A notebook as it is in the repository, and its executed copy."""
    shown = new_code_cell(source, id="shown", metadata={"tags": list(tags), "collapsed": True})
    cells = [new_markdown_cell("# 5 · A", id="title"), new_code_cell("import a"), shown]
    executed = [cell.copy() for cell in cells]
    added = new_code_cell("preset = 'cpu'", metadata={"tags": ["injected-parameters"]})
    executed[2] = new_code_cell(source, outputs=list(executed_outputs), execution_count=7)
    executed.insert(2, added)
    return new_notebook(cells=cells, metadata={"widgets": {}}), new_notebook(cells=executed)


def test_widgets_counts_metadata_folders_and_papermills_cell_go(monkeypatch):
    monkeypatch.setenv("FUSIONLIB_RESULTS", "/home/me/results")
    monkeypatch.setenv("FUSIONLIB_DATA", "synthetic")  # no folder
    data = {WIDGET: {"model_id": "1"}, "text/plain": "(controls)"}
    shown = new_output("display_data", data, metadata={"image/png": {"width": 3}})
    table = new_output("execute_result", {"text/html": "<td>1</td>"}, execution_count=7)
    text = new_output("stream", name="stdout", text="synthetic, in /home/me/results/CHITNet\n")
    made = take_outputs(*notebooks(shown, table, text, tags=["x"]))
    title, first, cell = made.cells
    assert made.metadata == outputs.METADATA and cell.metadata == {"tags": ["x"]}
    assert (first.execution_count, cell.execution_count) == (1, 2) and title.id == "title"
    assert cell.outputs[0] == new_output("display_data", {"text/plain": "(controls)"})
    assert cell.outputs[1].execution_count == 2
    assert cell.outputs[2].text == "synthetic, in $FUSIONLIB_RESULTS/CHITNet\n"


def test_pictures_of_datasets_give_place_to_a_sentence_and_charts_stay():
    shown = new_output("display_data", {"image/png": "AAAA", "text/plain": "<Figure>"})
    hidden = take_outputs(*notebooks(shown, tags=[PICTURES]), keep_pictures=False)
    assert hidden.cells[2].outputs == [new_output("display_data", {"text/plain": INSTEAD})]
    for keep, tags in ((True, [PICTURES]), (False, [])):
        kept = take_outputs(*notebooks(shown, tags=tags), keep_pictures=keep)
        assert "image/png" in kept.cells[2].outputs[0].data


def test_stderr_and_a_notebook_that_changed_since_are_refused():
    with pytest.raises(NotebookError, match="a warning"):
        take_outputs(*notebooks(new_output("stream", name="stderr", text="a warning")))
    source, executed = notebooks()
    source.cells[2].source = "newer"
    with pytest.raises(NotebookError, match="5 · A: changed since it ran"):
        take_outputs(source, executed)


def write_record(folder, stem, data_root, written, code=None):
    parameters = {"data_root": str(data_root), "out_dir": str(folder)}
    record = {"inputs": {"code": code or code_hash(), "parameters": parameters}}
    record["written"] = dict.fromkeys(written, "")
    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    (folder / f"notebooks/{stem}.json").write_text(json.dumps(record))


def test_a_run_is_put_into_the_notebook_with_a_line_that_says_which(tmp_path):
    source, executed = notebooks(new_output("stream", name="stdout", text="20 pairs\n"))
    run, target = tmp_path / "run", tmp_path / "05_compare.ipynb"
    write_record(run, "05_compare", "synthetic", ["tables/synthetic/a.csv"])
    nbformat.write(source, target)
    nbformat.write(executed, run / "notebooks/05_compare.ipynb")
    outputs.commit_outputs(run, ["05_compare"], tmp_path)
    _, first, cell = nbformat.read(target, as_version=4).cells
    said = first.outputs[0].data["text/markdown"]
    assert re.search(r"synthetic scenes; preset quick; encoder EfficientNet-Lite0 \(ImageNet", said)
    assert "; weights full.safetensors; commit " in said
    assert cell.outputs[0].text == "20 pairs\n"
    before = target.read_bytes()
    write_record(run, "05_compare", "synthetic", ["tables/synthetic/a.csv"], code="older")
    with pytest.raises(NotebookError, match="no complete run of 05_compare"):
        outputs.commit_outputs(run, ["05_compare"], tmp_path)
    assert target.read_bytes() == before


def test_r60_no_image_of_a_dataset_gets_in(tmp_path):
    for kind in ("ir", "vi"):
        (tmp_path / "TNO" / kind).mkdir(parents=True)
        for k in range(3):
            Image.new("L", (64, 64)).save(tmp_path / "TNO" / kind / f"{k}.png")
    for stem, root, problem in (
        ("02_cii", tmp_path, "shows images of the datasets"),
        ("05_compare", "synthetic", "of other data: set .FUSIONLIB_DATA"),
    ):
        write_record(tmp_path, stem, root, ["figures/quick/a.svg", "figures/datasets/b.png"])
        with pytest.raises(NotebookError, match=problem):
            outputs.commit_outputs(tmp_path, [stem], tmp_path)
