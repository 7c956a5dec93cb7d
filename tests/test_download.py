"""Fetching and unpacking; rows 24 to 29 of the table of faults, against a local server."""

import dataclasses
import functools
import hashlib
import inspect
import os
import stat
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from image_files import encode

from fusionlib import download as module
from fusionlib.datasets import DATASETS
from fusionlib.download import download, extract, fetch, terms
from fusionlib.errors import DatasetError, DownloadError

BODY = bytes(range(256)) * 400  # 102,400 bytes
SHA = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """The path of the URL names what happens."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        body, length = self.server.bodies.get(self.path, BODY), None
        if self.path in ("/cut", "/stalling"):
            length, body = len(body), body[:70_000]
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/stalling":
            self.server.released.wait(20)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.released = [], threading.Event()
    server.bodies = {"/page": b"<!DOCTYPE html><title>Quota</title>"}
    server.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def left_in(folder):
    """Names in a folder, without locks."""
    return sorted(file.name for file in folder.iterdir() if file.suffix != ".lock")


def zip_of(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as box:
        for name, data in files.items():
            box.writestr(name, data)
    return path


def test_fetch_makes_the_folder_and_leaves_nothing_but_the_file(server, tmp_path):
    target = tmp_path / "new" / "a.bin"
    assert fetch(server.url + "file", target, sha256=SHA) == target
    assert target.read_bytes() == BODY and left_in(target.parent) == ["a.bin"]
    (tmp_path / "other").write_bytes(b"")  # the rights that any new file gets
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


@pytest.mark.parametrize(
    ("path", "match"), [("cut", "70000 bytes read"), ("page", "but got"), ("missing", "404")]
)
def test_r24_wrong_hash_keeps_the_old_file(server, tmp_path, path, match):
    target = tmp_path / "a.zip"
    target.write_bytes(b"old")
    with pytest.raises(DownloadError, match=match) as error:
        fetch(server.url + path, target, sha256=SHA)
    assert f"Run again. By hand: get {server.url}{path} and put it at {target}" in str(error.value)
    assert target.read_bytes() == b"old" and left_in(tmp_path) == ["a.zip"]


def test_r24_without_a_hash_only_a_whole_zip_gets_its_name(server, tmp_path):
    archive = zip_of(tmp_path / "made.zip", {"a": BODY, "b": BODY}).read_bytes()
    server.bodies |= {"/zip": archive, "/half": archive[: len(archive) // 2]}
    for path in ("page", "half"):
        with pytest.raises(DownloadError, match="is not a whole zip"):
            fetch(server.url + path, tmp_path / "a.zip")
    assert left_in(tmp_path) == ["made.zip"]
    assert fetch(server.url + "zip", tmp_path / "a.zip").read_bytes() == archive


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a", "ftp://host/a", "http://[bad/a"])
def test_r24_every_fault_of_network_or_address_is_one_error(tmp_path, url):
    with pytest.raises(DownloadError, match=r"Run again\. By hand"):
        fetch(url, tmp_path / "a", timeout=(1, 1))


def test_r25_silent_server_is_given_up(server, tmp_path):
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"(?i)timed out"):
        fetch(server.url + "stalling", tmp_path / "a", sha256=SHA, timeout=(0.5, 0.5))
    assert time.monotonic() - began < 5 and left_in(tmp_path) == []
    assert inspect.signature(fetch).parameters["timeout"].default == (10, 60)


def test_r25_offline_says_file_place_and_hash(server, tmp_path):
    target = tmp_path / "data.zip"
    target.write_bytes(BODY)
    for sha256, offline in ((SHA, True), (SHA, False), (None, True), (None, False)):
        assert fetch(server.url + "file", target, sha256=sha256, offline=offline) == target
    target.write_bytes(b"wrong")
    with pytest.raises(DownloadError) as error:
        fetch(server.url + "file", target, sha256=SHA, offline=True)
    for text in ("data.zip", str(target), SHA, server.url + "file"):
        assert text in str(error.value)
    assert server.requests == [] and [f.name for f in tmp_path.iterdir()] == ["data.zip"]


def assert_refused(archive, match):
    folder = archive.parent
    before = sorted(folder.rglob("*"))
    with pytest.raises(DatasetError, match=match):
        extract(archive, folder / "out")
    assert sorted(folder.rglob("*")) == before


def test_extract_gives_every_file_its_bytes(tmp_path):
    files = {"top/ir/a.png": b"1" * 3000, "top/vi/ä b.png": b"2", "top/empty": b""}
    target = extract(zip_of(tmp_path / "a", files | {"top/none/": b""}), tmp_path / "new" / "out")
    found = {f.relative_to(target).as_posix(): f for f in target.rglob("*") if f.is_file()}
    assert {name: path.read_bytes() for name, path in found.items()} == files
    assert left_in(target.parent) == ["out"]
    with pytest.raises(DatasetError, match="not empty"):  # never mixed with other files
        extract(zip_of(tmp_path / "a", {"f": b"1"}), target)
    assert not (target / "f").exists()


WAYS_OUT = ("../", "/", "\\", "C:\\", "c:", "a\\..\\..\\")


@pytest.mark.parametrize(
    ("names", "match"),
    [
        *((["f", f"{way}evil"], "evil.*leads out") for way in WAYS_OUT),
        (["straße", "STRASSE"], "has the name of another member"),
        (["caf\u00e9", "cafe\u0301"], "has the name of another member"),
        (["a\\f", "a//./f"], "has the name of another member"),
    ],
)
def test_r26_name_that_leads_out(tmp_path, names, match):
    assert_refused(zip_of(tmp_path / "a.zip", dict.fromkeys(names, b"x")), match)
    assert not list(tmp_path.parent.glob("evil"))


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666])
def test_r26_links_and_devices(tmp_path, mode):
    info = zipfile.ZipInfo("odd")
    info.create_system, info.external_attr = 3, mode << 16
    assert_refused(zip_of(tmp_path / "a.zip", {info: b"/etc/passwd"}), "'odd' is a link")


def test_r27_bomb(tmp_path, monkeypatch):
    archive = zip_of(tmp_path / "a.zip", {"bomb": bytes(10_000_000)})
    assert_refused(archive, r"10000000 bytes.*\(a bomb\)")
    archive = zip_of(tmp_path / "a.zip", {"a": os.urandom(600), "b": os.urandom(600)})
    monkeypatch.setattr(module, "MAX_BYTES", 1199)
    assert_refused(archive, "1200 bytes, more than .* 1199")
    monkeypatch.setattr(module, "MAX_MEMBERS", 5)
    assert_refused(zip_of(tmp_path / "a.zip", {str(n): b"" for n in range(6)}), "6 members")
    archive = zip_of(tmp_path / "a.zip", {"f": b"x" * 1000})  # holds more than it declares
    data = archive.read_bytes().replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(data)
    assert_refused(archive, "cannot be unpacked")


def test_encrypted_zips_and_other_archives_leave_nothing(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"f": os.urandom(9000)})
    locked = bytearray(archive.read_bytes())
    locked[6] |= 1
    locked[locked.index(b"PK\1\2") + 8] |= 1
    for data in (locked, b"Rar!\x1a\x07\x01\x00", b""):
        archive.write_bytes(data)
        assert_refused(archive, "cannot be unpacked.*unpack it and give the folder")
    for names in (["a", "a/f"], ["n" * 300, "f"]):
        assert_refused(zip_of(archive, dict.fromkeys(names, b"x")), "cannot be unpacked")


IMAGE = encode(np.zeros((4, 6), np.uint8), "PNG")


@pytest.fixture
def get(tmp_path):
    """Download a dataset; zips go to cache/."""
    return functools.partial(download, root=tmp_path / "root", cache=tmp_path / "cache")


def test_r29_download_by_hand_says_where_and_how_and_takes_the_zip(get, tmp_path, capsys):
    with pytest.raises(DownloadError) as error:
        get("LLVIP")
    command = "python -m fusionlib data prepare LLVIP <the zip, or the unpacked folder>"
    place = tmp_path / "cache" / "LLVIP.zip"
    assert all(text in str(error.value) for text in (DATASETS["LLVIP"].page, command, str(place)))
    assert terms("LLVIP") in capsys.readouterr().out and left_in(tmp_path) == []
    place.parent.mkdir()
    zip_of(place, {f"{side}/1.png": IMAGE for side in ("ir", "vi")})
    assert get("LLVIP", offline=True) == 1
    with pytest.raises(DownloadError, match=r"RoadScene\.zip .*offline.*ab71420"):
        get("RoadScene", offline=True)


def test_r29_download_shows_terms_once_and_keeps_them(server, get, tmp_path, monkeypatch, capsys):
    files = {f"MSRS-main/train/{side}/1D.png": IMAGE for side in ("ir", "vi")}
    server.bodies["/msrs"] = zip_of(tmp_path / "a.zip", files).read_bytes()
    source = dataclasses.replace(DATASETS["MSRS"], url=server.url + "msrs")
    monkeypatch.setitem(DATASETS, "MSRS", source)
    note = tmp_path / "root" / "MSRS" / "TERMS.txt"
    assert get("MSRS") == 1
    shown = capsys.readouterr().out
    assert terms("MSRS") in shown and str(note) in shown and note.read_text() == terms("MSRS")
    assert get("MSRS") == 1
    assert terms("MSRS") not in capsys.readouterr().out and server.requests == ["/msrs"]
