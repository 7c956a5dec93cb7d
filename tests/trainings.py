"""A small training, and how two of them are compared."""

import itertools

import torch
from torch import nn

from fusionlib.encoder import ImageEncoder
from fusionlib.network import NetworkConfig
from fusionlib.training import TrainConfig

CONFIG = TrainConfig(
    network=NetworkConfig(width=8, blocks=1, heads=2, reduction=2),
    steps=8,
    batch=2,
    crop=16,
    validate_every=3,
    seed=5,
)


def build_encoder(gain=0.5):
    """A small frozen network with weights of no generator."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 6))
    values = torch.arange(72.0).mul(0.7).sin().view(6, 12)
    network[2].load_state_dict({"weight": gain * values, "bias": torch.zeros(6)})
    half = (0.5,) * 3
    return ImageEncoder(network, name="tiny", title="tiny", size=(8, 8), mean=half, std=half)


def flat(value, key=""):
    """Nested dictionaries and lists as one dictionary of leaves."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return dict(
            itertools.chain(*(flat(v, f"{key}/{k}").items() for k, v in items)), **{key: len(value)}
        )
    return {key: value}


def assert_same_training(folder, other):
    """Weights, optimizer, log and record, bit by bit."""
    for name in ("log.csv", "last.safetensors", "best.safetensors"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    one, two = (flat(torch.load(f / "checkpoint.pt", weights_only=True)) for f in (folder, other))
    assert one.pop("/seconds") > 0 and two.pop("/seconds") > 0
    assert one.keys() == two.keys()
    assert sum(isinstance(value, torch.Tensor) for value in one.values()) > 200
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, two[key]) and value.dtype == two[key].dtype, key
        else:
            assert value == two[key] or (value != value and two[key] != two[key]), key
