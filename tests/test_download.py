"""Fetching over HTTP; rows 24, 25, 28 and 29 of the table of faults. No internet."""

import hashlib
import inspect
import io
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from fusionlib.download import download, fetch
from fusionlib.errors import DownloadError
from fusionlib.sources import SOURCES, terms

BODY = bytes(range(256)) * 400  # 102,400 bytes
SHA = hashlib.sha256(BODY).hexdigest()
WRONG = "0" * 64
CUT = 70_000  # bytes an interrupted server sends
GOT = 65_536  # of them, what fetch has written: whole chunks


class Server(ThreadingHTTPServer):
    """What the tests ask for: the path of the URL names the misbehaviour.

    ``truncated.file`` is cut short the first time, and as it should be from then on.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.version = {}  # header and value that tell one version of the body from another
        self.requests = []  # (path, Range, If-Range)
        self.released = threading.Event()

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        span, condition = self.headers.get("Range"), self.headers.get("If-Range")
        self.server.requests.append((self.path, span, condition))
        self.start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        self.is_same = condition is None or condition in self.server.version.values()
        steps = self.path[1:].split(".")
        getattr(self, steps[min(len(self.server.requests), len(steps)) - 1])()

    def send(self, body, code=200, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers.setdefault("Content-Length", str(len(body)))
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def file(self):
        body = self.server.body
        if not (self.start and self.is_same):
            self.send(body, **self.server.version)
        elif self.start >= len(body):
            self.send(b"", 416, Content_Range=f"bytes */{len(body)}")
        else:
            self.rest()

    def rest(self):  # whatever If-Range says
        body, start = self.server.body, self.start
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.send(body[start:], 206, Content_Range=span, **self.server.version)

    def norange(self):
        self.send(BODY)

    def otherrange(self):
        self.send(BODY[7:], 206, Content_Range=f"bytes 7-{len(BODY) - 1}/{len(BODY)}")

    def lessrange(self):
        span = f"bytes {self.start}-{self.start + 9}/{len(BODY)}"
        self.send(BODY[self.start : self.start + 10], 206, Content_Range=span)

    def slow(self):
        time.sleep(1)
        self.send(BODY)

    def truncated(self):
        self.send(BODY[:CUT], Content_Length=str(len(BODY)), **self.server.version)

    def page(self):
        self.send(b"<p>Log in to continue</p>", Content_Type="text/html; charset=utf-8")

    def disguised(self):
        self.send(b"\n <!DOCTYPE html><title>Quota</title>", Content_Type="application/zip")

    def missing(self):
        self.send(b"no such thing", 404)

    def hanging(self):
        self.server.released.wait(20)

    def stalling(self):
        self.truncated()
        self.wfile.flush()
        self.server.released.wait(20)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def part_of(target):
    return target.with_name(target.name + ".part")


def left_in(folder):
    """Names in a folder, without the file of the lock."""
    return sorted(file.name for file in folder.iterdir() if file.suffix != ".lock")


def run_fetch(url, target, sha256=None):
    code = (
        "import pathlib; from fusionlib.download import fetch;"
        f"fetch({url!r}, pathlib.Path({str(target)!r}), sha256={sha256!r}, progress=False)"
    )
    return subprocess.Popen([sys.executable, "-c", code])


# ---- fetch


def test_fetch_verifies_and_leaves_no_part(server, tmp_path):
    target = tmp_path / "new" / "a.bin"
    assert fetch(server.url("file"), target, sha256=SHA, size=len(BODY)) == target
    assert target.read_bytes() == BODY
    assert sorted(f.name for f in target.parent.iterdir()) == ["a.bin", "a.bin.lock"]


def test_r24_wrong_hash_removes_part_and_keeps_old_file(server, tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(DownloadError) as error:
        fetch(server.url("file"), target, sha256=WRONG, size=len(BODY))
    for text in (SHA, WRONG, f"{len(BODY)} bytes"):
        assert text in str(error.value)
    assert target.read_bytes() == b"old"
    assert not part_of(target).exists()


def test_r24_wrong_size_names_both_sizes(server, tmp_path):
    with pytest.raises(DownloadError, match=f"expected 7 bytes.*got {len(BODY)} bytes"):
        fetch(server.url("file"), tmp_path / "a", size=7)
    assert not (tmp_path / "a").exists() and not (tmp_path / "a.part").exists()


def test_r24_interrupted_with_checksum_is_resumed(server, tmp_path):
    target = tmp_path / "a"
    with pytest.raises(DownloadError, match=f"after {GOT} bytes"):
        fetch(server.url("truncated"), target, sha256=SHA)
    assert not target.exists() and part_of(target).stat().st_size == GOT
    fetch(server.url("file"), target, sha256=SHA)
    assert target.read_bytes() == BODY and not part_of(target).exists()
    assert server.requests[-1] == ("/file", f"bytes={GOT}-", None)


def test_r24_resume_of_another_file_is_found_by_its_hash(server, tmp_path):
    target = tmp_path / "a"
    part_of(target).write_bytes(b"x" * 5000)
    with pytest.raises(DownloadError, match=SHA):
        fetch(server.url("file"), target, sha256=SHA)
    assert not part_of(target).exists()
    assert fetch(server.url("file"), target, sha256=SHA).read_bytes() == BODY


def test_r24_part_without_checksum_is_never_trusted(server, tmp_path):
    part_of(tmp_path / "a").write_bytes(b"x" * 5000)
    assert fetch(server.url("file"), tmp_path / "a").read_bytes() == BODY
    assert server.requests == [("/file", None, None)]


def test_r24_server_that_ignores_range_restarts(server, tmp_path):
    part_of(tmp_path / "a").write_bytes(BODY[:5000])
    assert fetch(server.url("norange"), tmp_path / "a", sha256=SHA).read_bytes() == BODY
    assert server.requests == [("/norange", "bytes=5000-", None)]


@pytest.mark.parametrize(
    ("path", "have"), [("otherrange", 5000), ("lessrange", 5000), ("file", len(BODY) + 1)]
)
def test_r24_resume_at_another_byte_is_refused(server, tmp_path, path, have):
    part_of(tmp_path / "a").write_bytes(b"x" * have)
    with pytest.raises(DownloadError, match="cannot resume"):
        fetch(server.url(path), tmp_path / "a", sha256=SHA)
    assert not part_of(tmp_path / "a").exists()


def test_r24_complete_part_needs_no_request(server, tmp_path):
    part_of(tmp_path / "a").write_bytes(BODY)  # killed between the last byte and the rename
    fetch(server.url("file"), tmp_path / "a", sha256=SHA)
    assert server.requests == []


@pytest.mark.parametrize("path", ["page", "disguised"])
def test_r24_web_page_with_200_is_refused(server, tmp_path, path):
    target = tmp_path / "a.zip"
    target.write_bytes(b"old")
    with pytest.raises(DownloadError, match="web page"):
        fetch(server.url(path), target, sha256=SHA)
    assert target.read_bytes() == b"old" and not part_of(target).exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a", "ftp://host/a", "http://[bad/a"])
def test_r24_every_network_fault_is_one_error(tmp_path, url):
    with pytest.raises(DownloadError, match=r"Run again\. By hand") as error:
        fetch(url, tmp_path / "a", timeout=(1, 1))
    assert url in str(error.value) and str(tmp_path / "a") in str(error.value)


def test_r24_target_that_cannot_be_written_is_one_error(server, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DownloadError):
        fetch(server.url("file"), tmp_path / "file" / "a")


@pytest.mark.parametrize("path", ["hanging", "stalling"])
def test_r25_silent_server_is_given_up(server, tmp_path, path):
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"(?i)timed out"):
        fetch(server.url(path), tmp_path / "a", timeout=(0.5, 0.5))
    assert time.monotonic() - began < 5


def test_r25_default_timeouts():
    assert inspect.signature(fetch).parameters["timeout"].default == (10, 60)


@pytest.mark.parametrize("offline", [True, False])
def test_r25_present_file_is_no_attempt(server, tmp_path, offline):
    (tmp_path / "a").write_bytes(BODY)
    fetch(server.url("file"), tmp_path / "a", sha256=SHA.upper(), offline=offline)
    fetch(server.url("file"), tmp_path / "a", offline=offline)
    assert server.requests == []
    assert [f.name for f in tmp_path.iterdir()] == ["a"]


def test_r25_offline_says_file_place_and_hash(server, tmp_path):
    target = tmp_path / "data.zip"
    target.write_bytes(b"wrong")
    with pytest.raises(DownloadError) as error:
        fetch(server.url("file"), target, sha256=SHA, offline=True)
    for text in ("data.zip", str(target), SHA, server.url("file")):
        assert text in str(error.value)
    assert server.requests == []


# ---- resumed by what the server said of its version


def interrupt(server, path, target, **version):
    """Let the first attempt fail after `GOT` bytes."""
    server.version = version
    with pytest.raises(DownloadError, match=f"after {GOT} bytes"):
        fetch(server.url(path), target)
    server.released.set()


OLD_DATE = formatdate(1.7e9, usegmt=True)


@pytest.mark.parametrize("sha256", [None, SHA])
@pytest.mark.parametrize("version", [{"ETag": '"one"'}, {"Last-Modified": OLD_DATE}])
def test_r24_interrupted_is_resumed_by_validator(server, tmp_path, version, sha256):
    interrupt(server, "truncated.file", tmp_path / "a", **version)
    assert left_in(tmp_path) == ["a.part", "a.part.json"]
    fetch(server.url("truncated.file"), tmp_path / "a", sha256=sha256)
    assert (tmp_path / "a").read_bytes() == BODY
    (value,) = version.values()
    assert server.requests[1:] == [("/truncated.file", f"bytes={GOT}-", value)]
    assert left_in(tmp_path) == ["a"]


def test_r24_resumed_though_last_modified_is_not_repeated(server, tmp_path):
    interrupt(server, "truncated.rest", tmp_path / "a", **{"Last-Modified": OLD_DATE})
    server.version = {}  # as RFC 9110 has it
    assert fetch(server.url("truncated.rest"), tmp_path / "a").read_bytes() == BODY


def test_r24_killed_process_is_resumed(server, tmp_path):
    server.version = {"ETag": '"one"'}
    process = run_fetch(server.url("stalling.file"), tmp_path / "a")
    give_up = time.monotonic() + 20
    while not (part_of(tmp_path / "a").exists() and server.requests):
        assert time.monotonic() < give_up and process.poll() is None
        time.sleep(0.05)
    time.sleep(0.2)
    process.kill()
    process.wait(10)
    server.released.set()
    assert fetch(server.url("stalling.file"), tmp_path / "a").read_bytes() == BODY


def test_r24_file_that_changed_meanwhile_is_fetched_whole(server, tmp_path):
    interrupt(server, "truncated.file", tmp_path / "a", ETag='"one"')
    server.version, server.body = {"ETag": '"two"'}, BODY[::-1]
    assert fetch(server.url("truncated.file"), tmp_path / "a").read_bytes() == BODY[::-1]
    assert server.requests[1:] == [("/truncated.file", f"bytes={GOT}-", '"one"')]
    assert left_in(tmp_path) == ["a"]


@pytest.mark.parametrize("version", [{"ETag": '"two"'}, {}])
def test_r24_server_that_ignores_if_range_is_not_believed(server, tmp_path, version):
    interrupt(server, "truncated.rest", tmp_path / "a", ETag='"one"')
    server.version, server.body = version, BODY[::-1]
    with pytest.raises(DownloadError, match="cannot resume"):
        fetch(server.url("truncated.rest"), tmp_path / "a")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    "version",
    [
        {},
        {"ETag": 'W/"one"', "Last-Modified": OLD_DATE},
        {"Last-Modified": formatdate(time.time() + 3600, usegmt=True)},
        {"Last-Modified": "yesterday"},
        {"ETag": '"one"', "Content-Encoding": "br"},
    ],
)
def test_r24_interrupted_without_a_sure_validator_leaves_nothing(server, tmp_path, version):
    interrupt(server, "truncated.file", tmp_path / "a", **version)
    assert left_in(tmp_path) == []


OTHER_ADDRESS = '{"url": "http://127.0.0.1:9/a", "header": "ETag", "value": "\\"one\\""}'


@pytest.mark.parametrize("record", ["", "[]", '{"url": 1}', OTHER_ADDRESS])
def test_r24_part_without_its_validator_starts_over(server, tmp_path, record):
    interrupt(server, "truncated.file", tmp_path / "a", ETag='"one"')
    (tmp_path / "a.part.json").write_text(record)
    assert fetch(server.url("truncated.file"), tmp_path / "a").read_bytes() == BODY
    assert server.requests[1:] == [("/truncated.file", None, None)]
    assert left_in(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("path", "sha256", "match"),
    [("truncated.file", WRONG, "expected.*got"), ("truncated.page", None, "web page")],
)
def test_r24_resumed_but_wrong_removes_both(server, tmp_path, path, sha256, match):
    interrupt(server, path, tmp_path / "a", ETag='"one"')
    with pytest.raises(DownloadError, match=match):
        fetch(server.url(path), tmp_path / "a", sha256=sha256)
    assert left_in(tmp_path) == []


def test_r24_failure_before_the_rest_keeps_what_is_there(server, tmp_path):
    interrupt(server, "truncated.missing", tmp_path / "a", ETag='"one"')
    with pytest.raises(DownloadError, match=f"after {GOT} bytes: 404"):
        fetch(server.url("truncated.missing"), tmp_path / "a")
    assert left_in(tmp_path) == ["a.part", "a.part.json"]


# ---- two processes


def test_r28_two_processes_fetch_once(server, tmp_path):
    both = [run_fetch(server.url("slow"), tmp_path / "a", SHA) for _ in range(2)]
    assert [process.wait(20) for process in both] == [0, 0]
    assert len(server.requests) == 1
    assert (tmp_path / "a").read_bytes() == BODY


# ---- download


def archive_of(*names):
    """Bytes of a zip with a small image for each name."""
    image, archive = io.BytesIO(), io.BytesIO()
    Image.new("L", (6, 4)).save(image, "PNG")
    with zipfile.ZipFile(archive, "w") as box:
        for name in names:
            box.writestr(name, image.getvalue())
    return archive.getvalue()


@pytest.mark.parametrize("dataset", ["LLVIP", "M3FD", "TNO"])
def test_r29_download_by_hand_says_where_and_how(tmp_path, dataset):
    notes = []
    with pytest.raises(DownloadError) as error:
        download(dataset, tmp_path / "root", cache=tmp_path / "cache", say=notes.append)
    text = str(error.value)
    command = f"python -m fusionlib data prepare {dataset} <the archive, or the unpacked folder>"
    for wanted in (SOURCES[dataset].page, "ownload", command):
        assert wanted in text
    assert str(tmp_path / "cache" / f"{dataset}.zip") in text
    assert terms(dataset) in notes[0]
    assert not (tmp_path / "root").exists()


def test_r25_archive_put_into_the_cache_by_hand_is_used(tmp_path):
    (tmp_path / "cache").mkdir()
    archive = archive_of("LLVIP/infrared/train/1.png", "LLVIP/visible/train/1.png")
    (tmp_path / "cache" / "LLVIP.zip").write_bytes(archive)
    assert download("LLVIP", tmp_path / "root", cache=tmp_path / "cache", offline=True) == 1


def test_r25_download_offline_says_what_is_missing(tmp_path):
    with pytest.raises(DownloadError, match=r"RoadScene\.zip .*offline.*ab71420.*RoadScene\.zip"):
        download("RoadScene", tmp_path / "root", cache=tmp_path / "cache", offline=True)


def test_r29_download_shows_terms_once_and_keeps_them(server, tmp_path, monkeypatch, capsys):
    server.body = archive_of("MSRS-main/train/ir/1D.png", "MSRS-main/train/vi/1D.png")
    sha256 = hashlib.sha256(server.body).hexdigest()
    local = replace(SOURCES["MSRS"], url=server.url("file"), sha256=sha256)
    monkeypatch.setitem(SOURCES, "MSRS", local)
    root, note = tmp_path / "root", tmp_path / "root" / "MSRS" / "TERMS.txt"
    assert download("MSRS", root, cache=tmp_path / "cache") == 1
    shown = capsys.readouterr().out
    assert terms("MSRS") in shown and str(note) in shown
    assert note.read_text() == terms("MSRS")
    assert download("MSRS", root, cache=tmp_path / "cache") == 1
    assert terms("MSRS") not in capsys.readouterr().out
    assert len(server.requests) == 1
