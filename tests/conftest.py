"""No test reaches the network: whatever tries to connect to another machine fails."""

import socket

import pytest
from image_files import encode

LOCAL = ("127.", "::1", "localhost", "0.0.0.0")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Lets kernels and clusters on this machine talk, and nothing else."""
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple) and not str(address[0]).startswith(LOCAL):
            pytest.fail(f"a test tried to connect to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def folders(tmp_path):
    """Two empty folders, ir/ and vi/."""
    for side in ("ir", "vi"):
        (tmp_path / side).mkdir()
    return tmp_path / "ir", tmp_path / "vi"


@pytest.fixture
def put(tmp_path):
    """Write bytes, or an image in the format of the suffix, and return the path."""

    def write(name, content, **options):
        path = tmp_path / name
        kind = {".jpg": "JPEG", ".tif": "TIFF"}.get(path.suffix, path.suffix[1:].upper())
        path.write_bytes(
            content if isinstance(content, bytes) else encode(content, kind, **options)
        )
        return path

    return write
