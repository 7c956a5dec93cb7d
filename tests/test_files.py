import hashlib

import pytest

from fusionlib import files
from fusionlib.errors import FusionError
from fusionlib.files import file_sha256, write_atomically


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
    monkeypatch.undo()
    write_atomically(path, b"newer and longer")
    assert path.read_bytes() == b"newer and longer" and list(tmp_path.iterdir()) == [path]


def test_r40_folder_that_is_not_there(tmp_path):
    with pytest.raises(FusionError, match=r"missing/file cannot be written"):
        write_atomically(tmp_path / "missing" / "file", b"data")


def test_the_checksum_is_that_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert file_sha256(tmp_path / "file") == known == hashlib.sha256(b"abc").hexdigest()
