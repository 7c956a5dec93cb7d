"""Files that appear whole or not at all, their checksums, and where the checkout is."""

import hashlib
import os
import shutil
from pathlib import Path

from fusionlib.errors import FusionError

REPOSITORY = Path(__file__).resolve().parent.parent  # fusionlib/, notebooks/, data/


def write_atomically(path: Path, data: bytes, temporary: Path | None = None) -> None:
    """Write bytes so that the file appears whole or not at all, and survives a power cut.

    Args:
        path: target; its folder must be there.
        data: what the file will hold.
        temporary: where the bytes grow, in the same folder; by default ``<name>.<process>.tmp``.

    Raises:
        FusionError: disk full, read-only folder and the like; a file of that name stays as it was.
    """
    temporary = temporary or path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
        raise FusionError(
            f"{path} cannot be written ({error.strerror or error}): it needs {len(data)} bytes, "
            f"{free} are free there"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
