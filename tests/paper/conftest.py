"""A checkout in small, papermill without kernels, and one quick run of the whole paper."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from filelock import FileLock

from fusionlib.files import REPOSITORY
from paper import pipeline
from paper.pipeline import CLOSING_LINE, find_notebooks


def status_of_checkout():
    """What git says of the checkout; None where it is none."""
    if not (REPOSITORY / ".git").exists():
        return None
    command = ["git", "-C", str(REPOSITORY), "status", "--porcelain"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory):
    """`python -m paper`, once a session even if several processes share the tests.

    Returns:
        ``folder`` (``runs/quick``), ``stems`` of its notebooks, ``printed``, and ``before`` and
        ``after``: what git said.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each process has a folder below that of the session
        shared = shared.parent
    folder = shared / "quick_run"
    with FileLock(shared / "quick_run.lock"):
        if not (folder / "printed").exists():
            folder.mkdir(exist_ok=True)
            (folder / "before").write_text(str(status_of_checkout()), encoding="utf-8")
            done = subprocess.run(
                [sys.executable, "-m", "paper", "--data-root", "synthetic"],
                cwd=folder,
                env={k: v for k, v in os.environ.items() if k != "FUSIONLIB_RESULTS"}
                | {"PYTHONPATH": str(REPOSITORY)},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            (folder / "after").write_text(str(status_of_checkout()), encoding="utf-8")
            (folder / "printed").write_text(done.stdout, encoding="utf-8")
    said = {name: Path(folder / name).read_text("utf-8") for name in ("printed", "before", "after")}
    stems = [path.stem for path in find_notebooks(REPOSITORY / "notebooks")]
    return SimpleNamespace(folder=folder / "runs" / "quick", stems=stems, **said)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in small, with everything a step depends on."""
    root = tmp_path / "checkout"
    for name, content in {
        "fusionlib/__init__.py": "HERE = 1\n",
        "data/splits/TNO.csv": "name\n01\n",
        "data/images/TNO/ir/01.png": "image",
        "data/images/TNO/vi/01.png": "image",
        "own.safetensors": "1",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    monkeypatch.setattr(pipeline, "ROOT", root)
    monkeypatch.setattr("fusionlib.datasets.USER_DATA", root / "data")
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return root


@pytest.fixture
def no_kernels(monkeypatch):
    """Puts a fake in place of papermill, for what comes before and after it; lists its calls."""
    calls = []

    def execute(source, target, parameters, **options):
        calls.append(os.path.basename(source).removesuffix(".ipynb"))
        node = nbformat.read(source, as_version=4)
        out = nbformat.v4.new_output("stream", name="stdout", text=f"{CLOSING_LINE} {calls[-1]}\n")
        node.cells[-1].outputs = [out]
        node.metadata["run"] = time.monotonic()  # like papermill, never the same file twice
        nbformat.write(node, target)
        Path(parameters["out_dir"], f"{calls[-1]}.csv").write_text("value\n")
        return node

    monkeypatch.setattr(pipeline.papermill, "execute_notebook", execute)
    return calls
