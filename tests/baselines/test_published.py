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
from fusionlib.baselines import METHODS, find_method, missing
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


def put(content, file=None, name="toy.pth"):
    """Save something as a published file, and describe it."""
    file = file or WeightsFile("Toy", "owner/toy", "0" * 40, f"models/{name}", "", 0)
    file.path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file.path)
    data = file.path.read_bytes()
    return replace(file, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def toy():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


# ---- found


def test_weights_are_looked_up_where_the_environment_says(root, monkeypatch):
    file = METHODS["DATFuse"].weights[0]
    assert file.path == root / "DATFuse" / "model_10.pth"
    monkeypatch.delenv("FUSIONLIB_WEIGHTS")
    assert weights_root().parts[-3:] == ("data", "weights", "published")


@pytest.mark.parametrize("name", FETCHED)
def test_missing_weights_are_an_error_that_says_what_to_do(root, name):
    with pytest.raises(WeightsError) as error:
        NETWORKS[name].network()
    file = NETWORKS[name].weights[0]
    command = f"python -m fusionlib data download --weights {name}"
    for text in (str(file.path), file.url, command, "FUSIONLIB_WEIGHTS"):
        assert text in str(error.value)


def test_every_file_is_pinned_and_has_a_place_of_its_own():
    files = [file for method in NETWORKS.values() for file in method.weights]
    assert (
        len({file.path for file in files}) == len(files) == len(LIST.read_text().splitlines()) - 1
    )
    for file in files:
        assert len(file.commit) == 40 and len(file.sha256) == 64 and file.size > 0


def test_an_unknown_method_is_an_error_that_names_the_known():
    with pytest.raises(WeightsError, match=r"'datfuse'.*DATFuse, LRRNet"):
        find_method("datfuse")


# ---- shipped


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
    for attempt in (changed.state, changed.fetch):
        with pytest.raises(WeightsError, match=r"cannot be read.*restore it"):
            attempt()
    changed.path.write_bytes(file.read()[:-1] + b"\0")
    with pytest.raises(WeightsError, match=r"sha256.*restore it"):
        changed.fetch()


# ---- verified


@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
def test_r31_damaged_file_is_found_by_its_sha256(damage):
    file = put(toy().state_dict())
    data = bytearray(file.path.read_bytes())
    data[len(data) // 2] ^= 1
    data = data[: {"flipped": None, "cut": 100, "emptied": 0}[damage]]
    file.path.write_bytes(data)
    with pytest.raises(
        WeightsError, match=f"{len(data)} bytes.*expected {file.size} bytes"
    ) as error:
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


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_r30_malicious_pickle_is_refused_and_nothing_executed(tmp_path, is_known, nested):
    payload = Payload(tmp_path / "executed")
    file = put({"weight": {"a": torch.zeros(1), "b": payload}} if nested else payload)
    if not is_known:
        file = replace(file, sha256="0" * 64)
    with pytest.raises(WeightsError, match="holds more than tensors" if is_known else "sha256"):
        load_network(toy(), (file,))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {1: torch.zeros(1)}, torch.zeros(1)])
def test_r30_anything_but_tensors_by_name_is_refused(content):
    file = put(content)
    for entry in ("", "weight"):
        with pytest.raises(WeightsError, match="expected tensors by name"):
            replace(file, entry=entry).state()


# ---- loaded


def test_prefix_of_parallel_training_is_dropped_and_names_are_mapped():
    state = {f"module.old.{key}": value for key, value in toy().state_dict().items()}
    del state["module.old.1.num_batches_tracked"]  # files older than this counter lack it
    net = load_network(toy(), (put(state),), ((r"^old\.", ""),))
    assert torch.equal(net[0].weight, state["module.old.0.weight"])
    assert not net.training and not net[0].weight.requires_grad


def test_two_files_make_one_network():
    state = toy().state_dict()
    first = put({key: v for key, v in state.items() if key[0] == "0"}, name="one.pth")
    second = put({key: v for key, v in state.items() if key[0] == "1"}, name="two.pth")
    assert torch.equal(load_network(toy(), (first, second))[0].weight, state["0.weight"])
    with pytest.raises(WeightsError, match=r"one\.pth does not fit Sequential: 4 missing: 1\.bias"):
        load_network(toy(), (first,))


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
    folder = tmp_path / "served"
    folder.mkdir()
    with served(folder) as address:
        monkeypatch.setattr("fusionlib.baselines.published.RAW", address)
        yield folder


def publish(folder, name, monkeypatch, content=b"weights"):
    """Let the served folder have what a method needs, under the address the code knows."""
    files = tuple(
        replace(file, sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for file in METHODS[name].weights
    )
    monkeypatch.setitem(METHODS, name, replace(METHODS[name], weights=files))
    for file in files:
        path = folder / file.repository / file.commit / file.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return files


def download(capsys, *arguments):
    status = main(["data", "download", "--weights", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_command_fetches_verified_weights_to_their_place(server, root, monkeypatch, capsys):
    files = publish(server, "DIDFuse", monkeypatch)
    status, said, _ = download(capsys, "DIDFuse")
    assert status == 0 and "IVIF-DIDFuse" in said
    assert [file.path.read_bytes() for file in files] == [b"weights"] * 2
    assert METHODS["DIDFuse"].missing() is None
    left = sorted(path.suffix for path in (root / "DIDFuse").iterdir())
    assert set(left) <= {".pkl", ".lock"}
    monkeypatch.setattr("fusionlib.baselines.published.RAW", "http://127.0.0.1:9")
    assert download(capsys, "DIDFuse")[0] == download(capsys, "DIDFuse", "--offline")[0] == 0
    files[0].path.write_bytes(b"older")
    status, _, said = download(capsys, "DIDFuse", "--offline")
    assert status == 2 and files[0].sha256 in said and files[0].path.read_bytes() == b"older"


def test_one_that_fails_does_not_keep_the_others_from_coming(server, monkeypatch, capsys):
    for name in FETCHED:
        publish(server, name, monkeypatch)
    (file,) = METHODS["LRRNet"].weights
    (server / file.repository / file.commit / file.file).unlink()
    status, said, wrong = download(capsys)
    assert status == 2 and "not in place: LRRNet (" in wrong and "404" in wrong
    assert list(missing()) == ["LRRNet"] and said.count("as published at") == 8


@pytest.mark.parametrize("name", ["average", "nonsense"])
def test_a_method_without_weights_is_an_error(name, capsys):
    status, _, said = download(capsys, name)
    assert status == 2 and name in said and "Traceback" not in said


def test_status_says_which_methods_cannot_run(tmp_path, capsys):
    assert main(["data", "status", "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    reasons = [line for line in lines if "cannot run" in line]
    assert len(reasons) == len(FETCHED) and list(missing()) == FETCHED
    for name, line in zip(FETCHED, reasons, strict=True):
        assert line.startswith(f"compared method {name} cannot run: ") and len(line) < 180
    assert "data download --weights" in lines[-1]
