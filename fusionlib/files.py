"""What may stop halfway: files that appear whole or not at all, locks, Ctrl-C; and where all is."""

import hashlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fusionlib.errors import FusionError

REPOSITORY = Path(__file__).resolve().parent.parent  # fusionlib/, paper/, notebooks/, data/
IS_CHECKOUT = (REPOSITORY / "pyproject.toml").is_file()  # False where it was installed
DATA = REPOSITORY / "data" if IS_CHECKOUT else Path(__file__).resolve().parent / "data"
# datasets, downloads and weights of others: never into the folder of an installed package
USER_DATA = DATA if IS_CHECKOUT else Path("data")


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
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def lock(
    path: Path, error: type[FusionError] = FusionError, *, wait: bool = False
) -> Iterator[None]:
    """Hold a lock file while the body runs; the system frees that of a process that dies.

    Args:
        path: the lock file; its folder must be there. It stays and holds the holder's process id.
        error: raised if the lock is refused.
        wait: if another process holds it, say so on stderr and wait instead of refusing.

    Raises:
        FusionError: of type ``error``: held by another process, or the file cannot be made.
    """
    file_lock = FileLock(path)
    try:
        try:
            file_lock.acquire(timeout=0)
        except Timeout:
            holder = "another process"
            with suppress(OSError):  # Windows lets nobody else read it
                holder = f"process {path.read_text('utf-8').strip() or 'unknown'}"
            if not wait:
                raise error(f"{path.parent}: {holder} is at work here (it holds {path})") from None
            print(f"waiting for {holder}, which holds {path}", file=sys.stderr)
            file_lock.acquire()
        with suppress(PermissionError):
            path.write_text(f"{os.getpid()}\n", encoding="utf-8")
    except OSError as problem:
        file_lock.release()
        raise error(f"{path}: cannot be locked: {problem}") from problem
    try:
        yield
    finally:
        file_lock.release()


@contextmanager
def noted_interrupts(enabled: bool) -> Iterator[list[int]]:
    """The first Ctrl-C is put into the list, the second interrupts as usual; or each, disabled."""
    noted: list[int] = []
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(number: int, frame: object) -> None:
        noted.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
