"""A small training, and how two of them are compared."""

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
    average=0.9,
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


def assert_same_training(folder, other):
    """Weights, optimizer, log and record, bit by bit."""
    for name in ("log.csv", "last.safetensors", "best.safetensors"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    tensors, others = [], []
    for path in (folder / "checkpoint.pt", other / "checkpoint.pt"):
        state = torch.load(path, weights_only=True)
        assert state.pop("seconds") > 0
        plain = [state.pop(key) for key in ("step", "best", "log", "forced", "identity")]
        plain.append(state["optimizer"].pop("param_groups"))
        tensors.append(state)
        others.append(str(plain))  # all digits, and NaN is NaN
    assert tensors[0].keys() == {"net", "kept", "optimizer"}
    torch.testing.assert_close(*tensors, rtol=0, atol=0)
    assert others[0] == others[1]
