"""Published weights: found, verified, loaded, fetched; rows 24, 25, 30, 31, 32. No internet."""

import hashlib
import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import nn

from fusionlib.__main__ import main
from fusionlib.baselines import METHODS, find_method, missing
from fusionlib.baselines.method import NetworkMethod
from fusionlib.baselines.published import WeightsFile, load_network, renamed_key, weights_root
from fusionlib.errors import WeightsError

NETWORKS = {name: m for name, m in METHODS.items() if isinstance(m, NetworkMethod)}
FETCHED = [name for name in NETWORKS if name != "SAGE"]  # whose weights are in this repository
WEIGHTS = os.environ.get("FUSIONLIB_WEIGHTS")
PARAMETERS = {  # of the description of each network
    "DATFuse": 10_760,
    "LRRNet": 49_204,
    "SeAFusion": 166_883,
    "IFCNN": 83_587,
    "DIDFuse": 260_935,
    "TarDAL": 296_577,
    "DenseFuse": 74_193,
    "SAGE": 135_617,
}


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


def test_missing_names_exactly_the_methods_without_weights(root):
    reasons = missing()
    assert list(reasons) == FETCHED
    assert all("No such file" in reason for reason in reasons.values())


def test_every_file_is_pinned_and_has_a_place_of_its_own():
    files = [file for method in NETWORKS.values() for file in method.weights]
    assert len(files) == 9 == len({file.path for file in files})
    for file in files:
        assert len(file.commit) == 40 and len(file.sha256) == 64 and file.size > 0
        assert file.url.startswith(f"https://raw.githubusercontent.com/{file.repository}/")


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


def test_r31_flipped_bit_is_found_by_its_sha256():
    file = put(toy().state_dict())
    data = bytearray(file.path.read_bytes())
    data[len(data) // 2] ^= 1
    file.path.write_bytes(data)
    with pytest.raises(WeightsError) as error:
        file.state()
    actual = hashlib.sha256(data).hexdigest()
    for text in (str(file.path), actual, file.sha256, "data download --weights Toy"):
        assert text in str(error.value)


@pytest.mark.parametrize("keep", [0, 100])
def test_r31_truncated_or_empty_file_is_refused(keep):
    file = put(toy().state_dict())
    file.path.write_bytes(file.path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=f"{keep} bytes.*expected {file.size} bytes"):
        file.read()


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
    with pytest.raises(WeightsError, match="expected tensors by name"):
        put(content).state()


def test_r32_entry_that_is_not_there_is_refused():
    file = replace(put({"weights": toy().state_dict()}), entry="weight")
    with pytest.raises(WeightsError, match="expected tensors by name"):
        file.state()


# ---- loaded


def test_prefix_of_parallel_training_is_dropped_and_names_are_mapped():
    state = {f"module.old.{key}": value for key, value in toy().state_dict().items()}
    net = load_network(toy(), (put(state),), ((r"^old\.", ""),))
    assert torch.equal(net[0].weight, state["module.old.0.weight"])
    assert not net.training and not net[0].weight.requires_grad


def test_two_files_make_one_network():
    state = toy().state_dict()
    first = put({key: v for key, v in state.items() if key[0] == "0"}, name="one.pth")
    second = put({key: v for key, v in state.items() if key[0] == "1"}, name="two.pth")
    assert torch.equal(load_network(toy(), (first, second))[0].weight, state["0.weight"])
    with pytest.raises(WeightsError, match=r"4 missing: 1\.bias"):
        load_network(toy(), (first,))


def test_files_older_than_the_counter_of_batchnorm_fit():
    state = toy().state_dict()
    del state["1.num_batches_tracked"]
    load_network(toy(), (put(state),))


def test_r32_missing_unexpected_and_misshaped_keys_are_listed():
    state = toy().state_dict()
    state["1.weight"] = torch.zeros(3)
    state["extra"] = state.pop("0.bias")
    with pytest.raises(WeightsError) as error:
        load_network(toy(), (put(state),))
    for text in ("1 missing: 0.bias", "1 unexpected: extra", "1 of other shape: 1.weight"):
        assert text in str(error.value)


def test_r32_no_more_than_ten_keys_are_listed():
    state = toy().state_dict() | {f"x{i:02}": torch.zeros(1) for i in range(30)}
    with pytest.raises(WeightsError, match=r"30 unexpected: x00, .*x09$"):
        load_network(toy(), (put(state),))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_have_the_published_number_of_parameters(name):
    net = NETWORKS[name].build()
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[name]


def conv(*names, bias=True):
    return {f"{name}.{part}" for name in names for part in ("weight", "bias")[: 1 + bias]}


def norm(*names, counter=True):
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{name}.{part}" for name in names for part in parts[: 4 + counter]}


def lrrnet_keys():
    convs = [f"decoder.conv_Re{part}.conv2d" for part in ("Zx", "Ux", "Zy", "Uy", "L", "H")]
    keys = set()
    for p in ("get_ls1", "get_ls2"):
        keys |= {f"{p}.lamj", f"{p}.lamz"}
        steps = [f"{p}.lrrblock{k}.conv_{w}.conv2d" for k in range(4) for w in ("Wdz", "Wdtz")]
        convs += [f"{p}.conv_W00.conv2d", *steps]
    return keys | conv(*convs)


def seafusion_keys():
    keys = conv(*(f"decode{n}.conv" for n in range(1, 5)))
    keys |= norm(*(f"decode{n}.bn" for n in range(1, 5)))
    for p in ("vis", "inf"):
        keys |= conv(f"{p}_conv.conv")
        for b in (f"{p}_rgbd1", f"{p}_rgbd2"):
            keys |= conv(*(f"{b}.{c}.conv" for c in ("dense.conv1", "dense.conv2", "convdown")))
            keys |= conv(f"{b}.convup.conv")
            keys |= conv(f"{b}.sobelconv.convx", f"{b}.sobelconv.convy", bias=False)
    return keys


def didfuse_keys():
    keys = conv("cov1.cov1.1", "cov7.cov7.1", *(f"cov{n}.cov{n}.0" for n in range(2, 7)))
    keys |= norm("cov1.cov1.2", "cov7.cov7.2", *(f"cov{n}.cov{n}.1" for n in range(2, 7)))
    return keys | {f"cov{n}.cov{n}.{3 if n == 1 else 2}.weight" for n in (1, 2, 5, 6)}


def ifcnn_keys():
    keys = conv("conv1", "conv2.conv", "conv3.conv", bias=False) | conv("conv4")
    return keys | norm("conv2.bn", "conv3.bn")


def test_published_names_become_those_of_the_networks():
    described = {
        "LRRNet": lrrnet_keys(),
        "SeAFusion": seafusion_keys(),
        "IFCNN": ifcnn_keys(),
        "DIDFuse": didfuse_keys(),
        "DenseFuse": conv(
            *(f"conv{n}.conv2d" for n in range(1, 6)),
            *(f"DB1.denseblock.{n}.dense_conv.conv2d" for n in range(3)),
        ),
    }
    assert len(described["LRRNet"]) == 52 and len(described["SeAFusion"]) == 72
    for name, keys in described.items():
        method = NETWORKS[name]
        assert {renamed_key(key, method.renamed) for key in keys} == set(
            method.build().state_dict()
        )
    assert all(NETWORKS[name].renamed == () for name in ("DATFuse", "TarDAL", "SAGE"))
    assert len(NETWORKS["DATFuse"].build().state_dict()) == 64


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


def test_r25_weights_that_are_there_are_no_attempt(server, monkeypatch, capsys):
    (file,) = publish(server, "DATFuse", monkeypatch)
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(b"weights")
    monkeypatch.setattr("fusionlib.baselines.published.RAW", "http://127.0.0.1:9")
    assert download(capsys, "DATFuse")[0] == 0
    assert download(capsys, "DATFuse", "--offline")[0] == 0


def test_r24_other_weights_than_published_are_refused(server, monkeypatch, capsys):
    (file,) = publish(server, "DATFuse", monkeypatch)
    (server / file.repository / file.commit / file.file).write_bytes(b"changed")
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(b"older")
    status, _, said = download(capsys, "DATFuse")
    assert status == 2 and file.sha256 in said and "Traceback" not in said
    assert file.path.read_bytes() == b"older"


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
    said = capsys.readouterr().out
    for name in FETCHED:
        assert f"compared method {name} cannot run: " in said
