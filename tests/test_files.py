import os
import subprocess
import sys

import pytest

from fusionlib import files
from fusionlib.errors import DatasetError, FusionError
from fusionlib.files import lock, write_atomically


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [Killed(), OSError(28, "No space left on device")], ids=repr)
def test_r40_old_file_survives_a_broken_write(tmp_path, monkeypatch, call, error):
    def broken(*args):
        raise error

    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(files.os, call, broken)
    with pytest.raises((Killed, FusionError)) as caught:
        write_atomically(path, b"newer and longer")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    if isinstance(error, OSError):
        message = str(caught.value)
        assert str(path) in message and "No space left on device" in message
        assert "needs 16 bytes" in message
        with pytest.raises(FusionError, match=r"missing/file cannot be written"):
            write_atomically(tmp_path / "missing" / "file", b"data")
    monkeypatch.undo()
    write_atomically(path, b"newer and longer")
    assert path.read_bytes() == b"newer and longer" and list(tmp_path.iterdir()) == [path]


# ---- locks


HOLD = """
from pathlib import Path
from fusionlib.files import lock
with lock(Path({!r})):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a lock until it is killed or gets a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(str(tmp_path / "x.lock"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_r28_r57_a_held_lock_is_refused_by_name_until_its_process_dies(holder, tmp_path):
    path = tmp_path / "x.lock"
    for _ in range(2):  # being refused leaves the lock and the name as they were
        refused = pytest.raises(DatasetError, match=f"process {holder.pid} is at work here")
        with refused, lock(path, DatasetError):
            pytest.fail("two hold the lock")
    (tmp_path / "file").write_text("not a folder")
    refused = pytest.raises(DatasetError, match="cannot be locked")
    with refused, lock(tmp_path / "file" / "a.lock", DatasetError):
        pytest.fail("there is no lock")
    holder.kill()
    holder.wait()
    with lock(path):
        assert path.read_text() == f"{os.getpid()}\n"
