"""What every committed notebook must be: parameterized, closed, free of local paths; stripped, or,
where outputs are for reading, with small ones.
"""

import ast
import base64
import re
from pathlib import Path

import nbformat
import pytest

from paper.outputs import METADATA, TEACHING
from paper.pipeline import CLOSING_LINE, PARAMETERS
from paper.teaching import WIDGET

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
LOCAL_PATH = r"/(home|root|Users|work|tmp)/|[A-Z]:\\\\"
TEXT_LINES = 30  # of a cell
NOTEBOOK_BYTES = 1_000_000
PNG_BYTES = 150_000  # of a cell
CELL_LINES = 25


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


@pytest.fixture(params=TEACHING)
def lesson_path(request):
    return NOTEBOOKS[0].with_name(f"{request.param}.ipynb")


@pytest.fixture
def lesson(lesson_path):
    return nbformat.read(lesson_path, as_version=4)


def test_the_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == [
        "00_data", "01_network", "02_cii", "03_cff", "04_train",
        "05_compare", "06_generalise", "07_ablation", "08_report",
    ]  # fmt: skip


def test_r60_no_local_paths(path):
    assert not re.search(LOCAL_PATH, path.read_text("utf-8"))


def test_r60_pipeline_notebooks_have_no_outputs_or_counts():
    for path in (path for path in NOTEBOOKS if path.stem not in TEACHING):
        notebook = nbformat.read(path, as_version=4)
        assert not any(cell.outputs or cell.execution_count for cell in code(notebook)), path


def test_r60_teaching_notebooks_are_as_one_clean_run_left_them(lesson):
    assert [cell.execution_count for cell in code(lesson)] == list(range(1, len(code(lesson)) + 1))
    assert lesson.metadata == METADATA
    for cell in code(lesson):
        assert set(cell.metadata) <= {"tags", "jupyter"}
        assert not outputs(cell, "stderr") and not outputs(cell, WIDGET)
        assert all(output.output_type != "error" for output in cell.outputs)


def test_outputs_of_teaching_notebooks_are_small(lesson_path, lesson):
    assert lesson_path.stat().st_size <= NOTEBOOK_BYTES
    for cell in code(lesson):
        text = "".join(outputs(cell, "stdout") + outputs(cell, "text/plain"))
        assert len(text.splitlines()) <= TEXT_LINES
        pictures = [base64.b64decode(data) for data in outputs(cell, "image/png")]
        assert sum(map(len, pictures)) <= PNG_BYTES


def test_cells_of_teaching_notebooks_are_short_and_define_no_network(lesson):
    for cell in lesson.cells:
        assert len(cell.source.splitlines()) <= CELL_LINES, cell.source
    for cell in code(lesson):
        assert not any(isinstance(line, ast.ClassDef) for line in ast.walk(ast.parse(cell.source)))


def test_before_each_figure_stands_what_to_look_for(lesson):
    text, shown = "", 0
    for cell in lesson.cells:
        if cell.cell_type == "markdown":
            text = cell.source
        elif re.search(r"^teaching\.(show|explore)\(", cell.source, re.M):
            assert "**Look for**" in text, cell.source
            text, shown = "", shown + 1
    assert shown >= 3


@pytest.mark.parametrize("stem", ["02_cii", "03_cff"])
def test_every_exercise_has_a_collapsed_solution_that_nbval_runs(stem):
    lesson = nbformat.read(NOTEBOOKS[0].with_name(f"{stem}.ipynb"), as_version=4)
    asked = [cell for cell in lesson.cells if re.match(r"(## Exercises|\*\*\d\.\*\*)", cell.source)]
    solved = [cell for cell in code(lesson) if "solution" in cell.metadata.get("tags", [])]
    assert len(asked) == len(solved) >= 3
    for i, cell in enumerate(solved, 1):
        assert cell.metadata.jupyter.source_hidden
        assert cell.source.startswith(f"# Solution {i}") and "assert " in cell.source
        assert lesson.cells[lesson.cells.index(cell) - 1] in asked


def test_title_first_then_imports_then_the_seven_parameters(path, notebook):
    number = int(path.stem[:2])
    assert notebook.cells[0].source.startswith(f"# {number} · ")
    assert "**Takes**" in notebook.cells[0].source
    imports, parameters = code(notebook)[:2]
    assert all(
        isinstance(line, ast.Import | ast.ImportFrom) for line in ast.parse(imports.source).body
    )
    assert parameters.metadata.tags == ["parameters"]
    assigned = [line.targets[0].id for line in ast.parse(parameters.source).body]
    assert tuple(assigned) == PARAMETERS
    assert 'preset = "quick"' in parameters.source  # nbval runs the defaults


def test_imports_only_this_library_and_the_listed_packages(notebook):
    allowed = {"fusionlib", "paper", "numpy", "pandas", "torch", "matplotlib", "skimage", "tqdm"}
    allowed |= {"ipywidgets", "dataclasses", "math", "hashlib", "json"}
    for cell in code(notebook):
        for line in ast.walk(ast.parse(cell.source)):
            if isinstance(line, ast.Import):
                assert {alias.name.split(".")[0] for alias in line.names} <= allowed
            elif isinstance(line, ast.ImportFrom):
                assert line.module.split(".")[0] in allowed


def test_it_ends_with_the_line_the_runner_looks_for(path, notebook):
    assert code(notebook)[-1].source.endswith(f'print("{CLOSING_LINE} {path.stem}")')
