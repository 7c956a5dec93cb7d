"""Published weights: found, verified, loaded, fetched; rows 24, 25, 30, 31, 32. No internet."""

import hashlib
import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from fusionlib.__main__ import main
from fusionlib.baselines import METHODS, missing
from fusionlib.baselines.method import NetworkMethod
from fusionlib.baselines.published import LIST, WeightsFile, load_network, renamed_key, weights_root
from fusionlib.errors import WeightsError

NETWORKS = {name: m for name, m in METHODS.items() if isinstance(m, NetworkMethod)}
FETCHED = [name for name in NETWORKS if name != "SAGE"]  # whose weights are in this repository
WEIGHTS = os.environ.get("FUSIONLIB_WEIGHTS")
KEYS = pd.read_csv(Path(__file__).with_name("published_keys.csv"), dtype=str, keep_default_na=False)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSIONLIB_WEIGHTS", str(tmp_path / "published"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "published"


def put(content, name="toy.pth"):
    """Save something as a published file, and describe it."""
    file = WeightsFile("Toy", "owner/toy", "0" * 40, f"models/{name}", "", "")
    file.path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file.path)
    data = file.path.read_bytes()
    return replace(file, sha256=hashlib.sha256(data).hexdigest(), size=str(len(data)))


def toy():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


# ---- found and verified


def test_missing_weights_are_looked_up_and_an_error_says_what_to_do(root, monkeypatch):
    for name in FETCHED:
        file = NETWORKS[name].weights[0]
        command = f"python -m fusionlib data download --weights {name}"
        assert file.path.parent == root / name and len(file.commit) == 40
        with pytest.raises(WeightsError) as error:
            NETWORKS[name].network()
        for text in (str(file.path), file.url, command, "FUSIONLIB_WEIGHTS"):
            assert text in str(error.value)
    files = [file for method in NETWORKS.values() for file in method.weights]
    assert len({file.path for file in files}) == len(files) == len(pd.read_csv(LIST))
    monkeypatch.delenv("FUSIONLIB_WEIGHTS")
    assert weights_root().parts[-3:] == ("data", "weights", "published")


def test_the_shipped_tensors_are_those_that_the_authors_published():
    (file,) = METHODS["SAGE"].weights
    published = Path(WEIGHTS or "nowhere") / "SAGE" / "checkpoints.pt"
    if not published.is_file():
        pytest.skip(f"no {published}")
    theirs = torch.load(published, map_location="cpu", weights_only=True)
    assert file.state().keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in file.state().items())
    licence = file.path.with_name("LICENSE").read_text("utf-8")
    assert licence == published.with_name("LICENSE").read_text("utf-8")


def test_r31_shipped_file_that_was_changed_is_refused(tmp_path):
    (file,) = METHODS["SAGE"].weights
    changed = replace(file, shipped=tmp_path / "sage.safetensors")
    with pytest.raises(WeightsError, match=r"cannot be read.*restore it"):
        changed.state()
    changed.path.write_bytes(file.read()[:-1] + b"\0")
    with pytest.raises(WeightsError, match=r"sha256.*restore it"):
        changed.fetch()


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_r31_damaged_file_is_found_by_its_sha256(damage):
    file = put(toy().state_dict())
    data = bytearray(file.path.read_bytes())
    data[len(data) // 2] ^= 1
    data = data if damage == "flipped" else data[:100]
    file.path.write_bytes(data)
    sizes = f"{len(data)} bytes.*expected {file.size} bytes"
    with pytest.raises(WeightsError, match=sizes) as error:
        file.state()
    actual = hashlib.sha256(data).hexdigest()
    for text in (str(file.path), actual, file.sha256, "data download --weights Toy"):
        assert text in str(error.value)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("nested", [True, False])
def test_r30_malicious_pickle_is_refused_and_nothing_executed(tmp_path, nested):
    payload = Payload(tmp_path / "executed")
    file = put({"weight": {"a": torch.zeros(1), "b": payload}} if nested else payload)
    with pytest.raises(WeightsError, match="holds more than tensors"):
        load_network(toy(), (file,))
    with pytest.raises(WeightsError, match="sha256"):
        load_network(toy(), (replace(file, sha256="0" * 64),))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {1: torch.zeros(1)}, torch.zeros(1)])
def test_r30_anything_but_tensors_by_name_is_refused(content):
    for entry in ("", "weight"):
        with pytest.raises(WeightsError, match="is refused"):
            replace(put(content), entry=entry).state()


# ---- loaded


def test_r32_files_make_one_network_whatever_its_names_or_say_what_does_not_fit():
    state = {f"module.old.{key}": value for key, value in toy().state_dict().items()}
    del state["module.old.1.num_batches_tracked"]  # files older than this counter lack it
    first = put({k: v for k, v in state.items() if ".0." in k}, name="one.pth")
    second = put({k: v for k, v in state.items() if ".1." in k}, name="two.pth")
    net = load_network(toy(), (first, second), ((r"^old\.", ""),))
    assert torch.equal(net[0].weight, state["module.old.0.weight"])
    assert not net.training and not net[0].weight.requires_grad
    with pytest.raises(WeightsError, match=r"one\.pth does not fit Sequential: 4 missing: 1\.bias"):
        load_network(toy(), (first,), ((r"^old\.", ""),))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_published_tensors_are_those_of_the_network(name):
    rows = KEYS.query("method == @name")
    found = dict(zip(rows["key"], rows["shape"], strict=True))
    found = {renamed_key(key, NETWORKS[name].renamed): shape for key, shape in found.items()}
    own = {k: "x".join(map(str, v.shape)) for k, v in NETWORKS[name].build().state_dict().items()}
    counters = {key: "" for key in own if key.endswith("num_batches_tracked")}  # some files lack it
    assert counters | found == own


# ---- fetched


@contextmanager
def served(folder):
    """Address of a server of a folder, in the place of GitHub."""
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *args: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(tmp_path, monkeypatch, relist):
    """A server that has all weights, each the same few bytes, under the addresses of the list."""
    files = [file for name in FETCHED for file in NETWORKS[name].weights]
    for file in files:
        path = tmp_path / "served" / file.repository / file.commit / file.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
    relist(monkeypatch, {file.file: b"weights" for file in files})
    with served(tmp_path / "served") as address:
        monkeypatch.setattr("fusionlib.baselines.published.RAW", address)
        yield tmp_path / "served"


def download(capsys, *arguments):
    status = main(["data", "download", "--weights", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_command_fetches_verified_weights_to_their_place(server, root, monkeypatch, capsys):
    files = METHODS["DIDFuse"].weights
    status, said, _ = download(capsys, "DIDFuse")
    assert status == 0 and "IVIF-DIDFuse" in said
    assert [file.path.read_bytes() for file in files] == [b"weights"] * 2
    assert METHODS["DIDFuse"].missing() is None
    assert {path.suffix for path in (root / "DIDFuse").iterdir()} <= {".pkl", ".lock"}
    monkeypatch.setattr("fusionlib.baselines.published.RAW", "http://127.0.0.1:9")
    assert download(capsys, "DIDFuse")[0] == download(capsys, "DIDFuse", "--offline")[0] == 0
    files[0].path.write_bytes(b"older")
    status, _, said = download(capsys, "DIDFuse", "--offline")
    assert status == 2 and files[0].sha256 in said and files[0].path.read_bytes() == b"older"


def test_one_that_fails_does_not_keep_the_others_from_coming(server, capsys):
    (file,) = METHODS["LRRNet"].weights
    (server / file.repository / file.commit / file.file).unlink()
    status, said, wrong = download(capsys)
    assert status == 2 and "not in place: LRRNet (" in wrong and "404" in wrong
    assert list(missing()) == ["LRRNet"] and said.count("as published at") == 8
    for name in ("average", "nonsense"):
        status, _, said = download(capsys, name)
        assert status == 2 and name in said and "Traceback" not in said


def test_status_says_which_methods_cannot_run(tmp_path, capsys):
    assert main(["data", "status", "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    reasons = [line for line in lines if "cannot run" in line]
    assert len(reasons) == len(FETCHED) and list(missing()) == FETCHED
    for name, line in zip(FETCHED, reasons, strict=True):
        assert line.startswith(f"compared method {name} cannot run: ") and "No such file" in line
