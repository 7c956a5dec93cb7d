"""Weights files: rows 30 to 35 and 40 of the fault list."""

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import nn

from fusionlib.encoder import ImageEncoder
from fusionlib.errors import WeightsError
from fusionlib.network import FusionNet, NetworkConfig
from fusionlib.weights import SHIPPED, load_weights, save_weights

CONFIG = NetworkConfig(embed=12, width=8, blocks=1, heads=2, reduction=2, use_cff=False)
RECORD = {"steps": 3, "seed": 0, "train_pairs": {"TNO": 2}, "note": "ü – “quoted”", "best": None}


def build_encoder(name="theirs", bias=0.0):
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, CONFIG.embed))
    nn.init.constant_(network[2].weight, 0.1)
    nn.init.constant_(network[2].bias, bias)
    half = (0.5,) * 3
    return ImageEncoder(network, name=name, title=f"{name}!", size=(8, 8), mean=half, std=half)


@pytest.fixture(scope="module")
def encoder():
    return build_encoder()


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = FusionNet(CONFIG)
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value))
            else:
                value.fill_(7)
    return net


@pytest.fixture
def saved(tmp_path, net, encoder):
    return save_weights(tmp_path / "net.safetensors", net, encoder, RECORD)


def sign(path):
    """Gives a changed file the checksum it now has, so that later checks come to bear."""
    described = json.loads(path.with_suffix(".json").read_text())
    described["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(described))


def rewrite(path, tensors=None, **changed):
    tensors = load_file(path) if tensors is None else tensors
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["record"]) | changed
    metadata = {key: value for key, value in metadata.items() if value is not None}
    path.write_bytes(save(tensors, {"record": json.dumps(metadata)}))
    sign(path)


def test_everything_comes_back_bit_by_bit(saved, net, encoder):
    found = load_weights(saved, encoder)
    assert found.net.config == CONFIG and not found.net.training
    own, other = net.state_dict(), found.net.state_dict()
    assert own.keys() == other.keys()
    for key, value in own.items():
        assert value.dtype == other[key].dtype and torch.equal(value, other[key]), key
    assert (found.encoder, found.encoder_title) == ("theirs", "theirs!")
    assert found.record == RECORD and found.path == saved
    assert found.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()
    described = json.loads(saved.with_suffix(".json").read_text(encoding="utf-8"))
    assert (described["file"], described["sha256"]) == ("net.safetensors", found.sha256)
    assert described["config"] == dataclasses.asdict(CONFIG) and described["record"] == RECORD
    assert load_file(saved).keys() == own.keys()  # any reader of the format gets them
    with torch.no_grad():
        image = torch.rand(1, 3, 9, 7)
        args = image[:, :1], image, torch.rand(1, 12), torch.rand(1, 12)
        assert torch.equal(net.eval()(*args), found.net(*args))


def test_equal_weights_have_equal_files(tmp_path, net, encoder):
    """So that the sha256 says whether two trainings came out the same."""
    turned = net.to(memory_format=torch.channels_last)
    files = [
        save_weights(tmp_path / str(i) / "w.safetensors", which, encoder, RECORD)
        for i, which in enumerate((net, turned, net))
    ]
    for suffix in (".safetensors", ".json"):
        assert len({path.with_suffix(suffix).read_bytes() for path in files}) == 1


def test_only_safetensors_are_written_and_read(tmp_path, net, encoder):
    with pytest.raises(WeightsError, match=r"net\.pt.*\.safetensors"):
        save_weights(tmp_path / "net.pt", net, encoder, {})
    assert not list(tmp_path.iterdir())
    torch.save({"a": torch.zeros(1)}, tmp_path / "checkpoint.pt")
    for name in ("nothing.safetensors", "checkpoint.pt"):
        with pytest.raises(WeightsError, match=rf"{name}: no weights file.*train.*best\.safetens"):
            load_weights(tmp_path / name)


def test_r30_malicious_pickle_is_refused_and_not_executed(saved, tmp_path):
    marker = tmp_path / "executed"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (marker,))

    torch.save({"net": Payload()}, saved)
    sign(saved)
    with pytest.raises(WeightsError, match=r"net\.safetensors: not a weights file"):
        load_weights(saved)
    assert not marker.exists()
    torch.load(saved.rename(saved.with_suffix(".pt")), weights_only=False)
    assert marker.exists()  # the payload works


def test_r31_flipped_bit_is_found_although_safetensors_loads_it(saved):
    data = bytearray(saved.read_bytes())
    data[-1] ^= 0x10
    saved.write_bytes(data)
    with pytest.raises(WeightsError, match=r"net\.safetensors is damaged: sha256 \w{64}, exp"):
        load_weights(saved)
    load_file(saved)


def test_r31_missing_or_damaged_checksum(saved):
    saved.with_suffix(".json").unlink()
    for content in (None, b"{", b"[]", b"{}", b"\xff\xfe"):
        if content:
            saved.with_suffix(".json").write_bytes(content)
        with pytest.raises(WeightsError, match=r"net\.json.*missing or damaged; copy both"):
            load_weights(saved)


def test_r32_missing_unexpected_and_misshaped_keys_are_listed(saved):
    tensors = load_file(saved)
    del tensors["cii_ir.w_ir"]
    tensors["head.weight"] = torch.zeros(2)
    tensors["cii_vi.w_ir"] = torch.zeros(13)
    rewrite(saved, tensors)
    with pytest.raises(WeightsError) as caught:
        load_weights(saved)
    message = str(caught.value)
    assert "net.safetensors" in message and "embed=12, width=8" in message
    assert "1 missing: cii_ir.w_ir" in message
    assert "1 unexpected: head.weight" in message
    assert "1 of other shape: cii_vi.w_ir" in message
    rewrite(saved, {f"key{i:02d}": torch.zeros(1) for i in range(15)})
    with pytest.raises(WeightsError, match=r"15 unexpected: key00[^;]*key09;? ?"):
        load_weights(saved)


def test_r32_the_prefix_of_parallel_training_is_taken_off(saved, net):
    rewrite(saved, {f"module.{key}": value for key, value in load_file(saved).items()})
    found = load_weights(saved).net.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    "changed", [{"config": []}, {"config": {"depth": 3}}, {"record": None}], ids=str
)
def test_r32_files_of_other_projects(saved, changed):
    rewrite(saved, **changed)
    match = r"net\.safetensors: not a weights file of this project"
    with pytest.raises(WeightsError, match=match):
        load_weights(saved)
    for metadata in (None, {"record": "["}, {"record": "[]"}):
        saved.write_bytes(save({"a": torch.zeros(1)}, metadata))
        sign(saved)
        with pytest.raises(WeightsError, match=match):
            load_weights(saved)


def test_r35_other_encoder_of_equal_length_is_refused(saved):
    other = build_encoder("ours", bias=0.5)
    assert other.embed == CONFIG.embed
    with pytest.raises(WeightsError) as caught:
        load_weights(saved, other)
    message = str(caught.value)
    assert "net.safetensors" in message and "'theirs'" in message and "'ours'" in message
    assert "--encoder theirs" in message and "train --encoder ours" in message
    assert load_weights(saved).encoder == "theirs"  # without an encoder: for finding out
    assert load_weights(saved, build_encoder("local copy")).encoder == "theirs"
    with pytest.raises(WeightsError, match="other weights or settings"):
        load_weights(saved, build_encoder("theirs", bias=0.5))


@pytest.mark.parametrize("name", ["full", "without_both", "letter"])
def test_the_log_of_shipped_weights_has_a_row_for_each_step(name):
    path = SHIPPED.with_name(f"{name}.safetensors")
    found = load_weights(path)
    rows = path.with_name(f"{name}_log.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(rows) == found.record["of_steps"] == found.record["steps"] == found.steps
    assert path.stat().st_size <= 8 * 2**20


def test_the_ablation_is_trained_like_the_full_network_but_for_what_it_lacks():
    full, ablation = (
        load_weights(SHIPPED.with_name(f"{name}.safetensors")) for name in ("full", "without_both")
    )
    one, two = full.record["config"], ablation.record["config"]
    assert {key for key in one if one[key] != two[key]} == {"network"}
    one, two = one["network"], two["network"]
    assert {key for key in one if one[key] != two[key]} == {"use_cii", "use_cff"}
    assert (two["use_cii"], two["use_cff"]) == (False, False)
    same = ("of_steps", "train_pairs", "train_sha256", "val_pairs", "init")
    assert [full.record[key] for key in same] == [ablation.record[key] for key in same]
