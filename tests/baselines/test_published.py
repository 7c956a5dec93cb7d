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
from fusionlib.baselines import METHODS, missing, published
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
    original = Path(WEIGHTS or "nowhere") / "SAGE" / "checkpoints.pt"
    if not original.is_file():
        pytest.skip(f"no {original}")
    theirs = torch.load(original, map_location="cpu", weights_only=True)
    assert file.state().keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in file.state().items())
    licence = file.path.with_name("LICENSE").read_text("utf-8")
    assert licence == original.with_name("LICENSE").read_text("utf-8")


def test_r31_damaged_file_is_found_by_its_sha256(tmp_path):
    file = put(toy().state_dict())
    whole = file.path.read_bytes()
    for data in (whole[:99] + bytes([whole[99] ^ 1]) + whole[100:], whole[:100]):
        file.path.write_bytes(data)
        sizes = f"{len(data)} bytes.*expected {file.size} bytes"
        with pytest.raises(WeightsError, match=sizes) as error:
            file.state()
        actual = hashlib.sha256(data).hexdigest()
        for text in (str(file.path), actual, file.sha256, "data download --weights Toy"):
            assert text in str(error.value)
    (file,) = METHODS["SAGE"].weights
    shipped = replace(file, shipped=tmp_path / "sage.safetensors")
    with pytest.raises(WeightsError, match=r"cannot be read.*restore it"):
        shipped.state()
    shipped.path.write_bytes(file.read()[:-1] + b"\0")
    with pytest.raises(WeightsError, match=r"sha256.*restore it"):
        shipped.fetch()


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_r30_malicious_pickle_is_refused_and_nothing_executed(tmp_path):
    payload = Payload(tmp_path / "executed")
    for content in (payload, {"weight": {"a": torch.zeros(1), "b": payload}}):
        file = put(content)
        with pytest.raises(WeightsError, match="holds more than tensors"):
            load_network(toy(), (file,))
        with pytest.raises(WeightsError, match="sha256"):
            load_network(toy(), (replace(file, sha256="0" * 64),))
    assert not (tmp_path / "executed").exists()
    for content in ([1, 2], {"a": 1}, {1: torch.zeros(1)}, torch.zeros(1)):
        with pytest.raises(WeightsError, match="is refused"):
            put(content).state()
        with pytest.raises(WeightsError, match="is refused"):
            replace(put({"weight": content}), entry="weight").state()


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
def server(tmp_path, monkeypatch):
    """A server that has all weights, each the same few bytes, under the addresses of the list."""
    listed = pd.read_csv(LIST, dtype=str, keep_default_na=False)
    is_fetched = listed["shipped"] == ""
    listed.loc[is_fetched, ["sha256", "size"]] = hashlib.sha256(b"weights").hexdigest(), "7"
    listed.to_csv(tmp_path / "list.csv", index=False)
    monkeypatch.setattr(published, "LIST", tmp_path / "list.csv")
    for row in listed[is_fetched].itertuples():
        path = tmp_path / "served" / row.repository / row.commit / row.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
    with served(tmp_path / "served") as address:
        monkeypatch.setattr(published, "RAW", address)
        yield tmp_path / "served"


def download(capsys, *arguments):
    status = main(["data", "download", "--weights", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_command_fetches_verified_weights_to_their_place(server, root, monkeypatch, capsys):
    (lost,) = METHODS["LRRNet"].weights
    (server / lost.repository / lost.commit / lost.file).unlink()
    status, said, wrong = download(capsys)  # one that fails does not keep others from coming
    assert status == 2 and "not in place: LRRNet (" in wrong and "404" in wrong
    assert list(missing()) == ["LRRNet"] and said.count("as published at") == 8
    files = METHODS["DIDFuse"].weights
    assert [file.path.read_bytes() for file in files] == [b"weights"] * 2
    assert {path.suffix for path in (root / "DIDFuse").iterdir()} <= {".pkl", ".lock"}
    monkeypatch.setattr(published, "RAW", "http://127.0.0.1:9")
    assert download(capsys, "DIDFuse")[0] == download(capsys, "DIDFuse", "--offline")[0] == 0
    files[0].path.write_bytes(b"older")
    status, _, wrong = download(capsys, "DIDFuse", "--offline")
    assert status == 2 and files[0].sha256 in wrong and files[0].path.read_bytes() == b"older"
    for name in ("average", "nonsense"):
        status, _, wrong = download(capsys, name)
        assert status == 2 and name in wrong and "Traceback" not in wrong


def test_status_says_which_methods_cannot_run(tmp_path, capsys):
    assert main(["data", "status", "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    reasons = [line for line in lines if "cannot run" in line]
    assert len(reasons) == len(FETCHED) and list(missing()) == FETCHED
    for name, line in zip(FETCHED, reasons, strict=True):
        assert line.startswith(f"compared method {name} cannot run: ") and len(line) < 180
    assert "data download --weights" in lines[-1]
