"""What every committed notebook must be: parameterized, closed, readable without running it."""

import ast
import base64
import re
from pathlib import Path

import nbformat
import pytest

from paper.outputs import INSTEAD, METADATA, PICTURES, TEACHING
from paper.pipeline import CLOSING_LINE, PARAMETERS
from paper.report import notebook_page
from paper.teaching import WIDGET

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LOCAL_PATH = r"/(home|root|Users|work|tmp)/|[A-Z]:\\\\"
TEXT_LINES = 40  # printed by a cell
NOTEBOOK_BYTES = 2_000_000
PNG_BYTES = 500_000  # of a cell
SHOWS = re.compile(r"^ *(?:teaching\.(?:show|explore)\(|plt\.show\()", re.M)
IMAGES = re.compile(r"\b(?:image_grid|zoom_grid|side_by_side|pictures)\(")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(cell, kind):
    """Text of a stream, or data of a media type, of all outputs of a cell."""
    found = (o.get("text") if o.get("name") == kind else o.get("data", {}).get(kind)
             for o in cell.outputs)  # fmt: skip
    return [text for text in found if text is not None]


def test_r60_it_is_as_one_clean_run_left_it(path, notebook):
    """The lessons on drawn scenes, the others on the datasets, all with small outputs."""
    cells, text = code(notebook), path.read_text("utf-8")
    assert notebook.metadata == METADATA
    assert len(text.encode()) <= NOTEBOOK_BYTES and not re.search(LOCAL_PATH, text)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    (origin,) = outputs(cells[0], "text/markdown")
    assert re.match(r"\*Outputs below: .+; encoder .+; weights .+; commit [0-9a-f]{7}", origin)
    assert ("synthetic scenes" in origin) == (path.stem in TEACHING)
    for cell in cells:
        assert set(cell.metadata) <= {"tags", "jupyter"}
        assert not outputs(cell, "stderr") and not outputs(cell, WIDGET)
        assert all(output.output_type != "error" for output in cell.outputs)
        assert len("".join(outputs(cell, "stdout")).splitlines()) <= TEXT_LINES
        pictures, notes = outputs(cell, "image/png"), outputs(cell, "text/plain")
        assert sum(len(base64.b64decode(data)) for data in pictures) <= PNG_BYTES
        if SHOWS.search(cell.source):
            assert pictures or INSTEAD in notes, cell.source
        if PICTURES in cell.metadata.get("tags", ()):
            assert not pictures, cell.source


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem not in TEACHING])
def test_r60_cells_that_show_images_of_datasets_are_tagged(path):
    """An open figure is displayed at the end of its cell, asked for or not."""
    for cell in code(nbformat.read(path, as_version=4)):
        tagged = PICTURES in cell.metadata.get("tags", ())
        assert tagged == bool(IMAGES.search(cell.source)), cell.source


def test_its_page_has_no_traceback_and_its_formulas_are_formulas(path, notebook):
    page = notebook_page(notebook, path.stem)
    assert "Traceback" not in page
    text = re.sub(r"<annotation.*?</annotation>", "", page)
    for formula in re.findall(r"<math.*?</math>", text, re.S):
        assert "\\" not in re.sub(r"<.*?>", "", formula), formula
    prose = re.sub(r"<(pre|script|style|math).*?</\1>", "", text, flags=re.S)
    assert "$$" not in prose and not re.search(r"\\(?:frac|odot|hat|tag)\b", prose)


@pytest.mark.parametrize("stem", ["02_cii", "03_cff"])
def test_every_exercise_has_a_place_a_check_and_a_hidden_solution(stem):
    cells = nbformat.read(NOTEBOOKS[0].with_name(f"{stem}.ipynb"), as_version=4).cells
    tags = [cell.metadata.get("tags") for cell in cells]
    turns = [i for i, tag in enumerate(tags) if tag == ["exercise"]]
    assert len(turns) == tags.count(["check"]) == tags.count(["solution"]) >= 3
    for number, i in enumerate(turns, 1):
        asked, turn, check, solution = cells[i - 1 : i + 3]
        assert tags[i + 1 : i + 3] == [["check"], ["solution"]]
        assert f"**{number}.**" in asked.source
        assert turn.source.startswith(f"answer_{number} = None")
        assert "assert " in check.source and "assert " in solution.source
        assert outputs(check, "stdout") == [f"exercise {number}: not solved yet\n"]
        assert solution.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}


def test_it_has_title_imports_the_seven_parameters_and_the_line_the_runner_looks_for(
    path, notebook
):
    number = int(path.stem[:2])
    assert notebook.cells[0].source.startswith(f"# {number} · ")
    assert "**Takes**" in notebook.cells[0].source
    imports, parameters, opening = code(notebook)[:3]
    assert "run = open_run(" in opening.source
    for cell in (imports, parameters, opening):
        assert "hide-input" in cell.metadata.tags
    lines = ast.parse(imports.source).body
    assert all(isinstance(line, ast.Import | ast.ImportFrom) for line in lines)
    assert [cell for cell in code(notebook) if "parameters" in cell.metadata.get("tags", ())] == [
        parameters
    ]
    assigned = [line.targets[0].id for line in ast.parse(parameters.source).body]
    assert tuple(assigned) == PARAMETERS
    assert 'preset = "quick"' in parameters.source  # what nbval and a reader run
    assert code(notebook)[-1].source.endswith(f'print("{CLOSING_LINE} {path.stem}")')
