"""One quick run of the whole paper on the drawn scenes, for every test that needs one."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from fusionlib.files import REPOSITORY


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
        ``folder`` (``runs/quick``), ``printed``, and ``before``, ``after``: what git said.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each process has a folder below that of the session
        shared = shared.parent
    folder = shared / "quick_run"
    with FileLock(shared / "quick_run.lock"):
        if not (folder / "printed").exists():
            folder.mkdir()
            (folder / "before").write_text(str(status_of_checkout()), encoding="utf-8")
            done = subprocess.run(
                [sys.executable, "-m", "paper", "--data-root", "synthetic"],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            (folder / "after").write_text(str(status_of_checkout()), encoding="utf-8")
            (folder / "printed").write_text(done.stdout, encoding="utf-8")
    said = {name: Path(folder / name).read_text("utf-8") for name in ("printed", "before", "after")}
    return SimpleNamespace(folder=folder / "runs" / "quick", **said)
