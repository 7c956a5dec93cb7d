"""notebooks → paper → fusionlib, never back, and no notebook machinery in the library."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
MACHINERY = {"matplotlib", "seaborn", "papermill", "nbformat", "nbconvert", "IPython", "ipywidgets"}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            yield node.module.split(".")[0]


def test_the_library_knows_nothing_of_the_paper_and_its_machinery():
    for path in sorted((ROOT / "fusionlib").rglob("*.py")):
        assert not set(imported(path)) & (MACHINERY | {"paper"}), path


def test_fusing_loads_no_machinery():
    code = f"import fusionlib.inference, sys; assert not {MACHINERY!r} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
