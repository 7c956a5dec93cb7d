"""What every committed notebook must be: stripped, parameterized, closed, free of local paths."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from fusionlib.pipeline import CLOSING_LINE, PARAMETERS

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebooks_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["00_data", "01_network", "04_train", "05_compare"]


def test_r60_no_outputs_counts_or_local_paths(path, notebook):
    assert not any(cell.outputs or cell.execution_count for cell in code(notebook))
    assert not re.search(r"/(home|root|Users|work|tmp)/|[A-Z]:\\\\", path.read_text("utf-8"))


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
    allowed = set(
        [
            "fusionlib",
            "numpy",
            "pandas",
            "torch",
            "matplotlib",
            "skimage",
            "tqdm",
            "hashlib",
            "json",
        ]
    )
    for cell in code(notebook):
        for line in ast.walk(ast.parse(cell.source)):
            if isinstance(line, ast.Import):
                assert {alias.name.split(".")[0] for alias in line.names} <= allowed
            elif isinstance(line, ast.ImportFrom):
                assert line.module.split(".")[0] in allowed


def test_it_ends_with_the_line_the_runner_looks_for(path, notebook):
    assert code(notebook)[-1].source.endswith(f'print("{CLOSING_LINE} {path.stem}")')
