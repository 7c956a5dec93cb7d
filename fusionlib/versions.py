"""Which code, packages and machine a result is made with."""

import platform
import re
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from fusionlib.errors import FusionError
from fusionlib.files import REPOSITORY

LOCK = REPOSITORY / "requirements.lock"
CPUINFO = Path("/proc/cpuinfo")
CODE = ("fusionlib", "paper", "notebooks", "data")


def check(preset: str, lock: Path = LOCK) -> list[str]:
    """Compare installed versions with the lock; builds for other hardware are the same version.

    What is not installed does not count: PyTorch without CUDA has none of its libraries, and the
    lock names tools for tests, too.

    Args:
        preset: in ``paper`` a difference is an error, in others it is returned.
        lock: lines that begin with ``name==version``.

    Returns:
        One line for each package that differs.

    Raises:
        FusionError: a package differs, in ``paper``.
    """
    pinned = re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text("utf-8"), re.M)
    differences = []
    for name, wanted in pinned:
        with suppress(PackageNotFoundError):
            installed = version(name)
            if installed.partition("+")[0] != wanted.partition("+")[0]:
                differences.append(f"{name} is {installed}, was {wanted}")
    if differences and preset == "paper":
        raise FusionError(
            f"other versions than in the reference run: {'; '.join(differences)}. "
            f"pip install -r {lock.name} brings them back; other presets only say so."
        )
    return differences


def commit(repository: Path = REPOSITORY) -> str | None:
    """Commit of a checkout, marked if a file that git knows differs from it; None outside git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(repository), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *CODE)
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def processor(device: torch.device | str = "cpu") -> str:
    """Name of this machine's accelerator, or of its processor as far as the system tells."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    info = CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.is_file() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", info, re.M)
    return found[1].strip() if found else platform.processor() or platform.machine()
