"""DATFuse: residual attention around two transformer blocks whose windows are single tokens.

W. Tang et al., DATFuse: Infrared and visible image fusion via dual attention transformer, IEEE
TCSVT 33(7), 2023, doi:10.1109/TCSVT.2023.3234340.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionlib.baselines.method import Array, NetworkMethod, grey, unit_tensor

WIDTH = 16


class ConvNorm(nn.Module):
    """k×k convolution over a replicated border, BatchNorm, ReLU."""

    def __init__(self, channels_in: int, size: int):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, WIDTH, size, padding=size // 2, padding_mode="replicate")
        self.bn = nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) → (B, 16, H, W)."""
        return F.relu(self.bn(self.conv(x)))

    def without_relu(self, x: Tensor) -> Tensor:
        """(B, c, H, W) → (B, 16, H, W)."""
        return self.bn(self.conv(x))


class TokenBlock(nn.Module):
    """Transformer block with windows of one token.

    A softmax over a single key is 1, so attention is the projection of the values: queries, keys
    and relative positions are stored and have no effect.
    """

    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attn = nn.Module()
        self.attn.relative_position_bias_table = nn.Parameter(torch.zeros(1, 8))
        self.attn.register_buffer("relative_position_index", torch.zeros(1, 1, dtype=torch.int64))
        self.attn.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.attn.proj = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Module()
        self.mlp.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.mlp.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, t: Tensor) -> Tensor:
        """Tokens (B, T, 16) → (B, T, 16)."""
        qkv = self.attn.qkv
        values = F.linear(self.norm1(t), qkv.weight[2 * WIDTH :], qkv.bias[2 * WIDTH :])
        t = t + self.attn.proj(values)
        return t + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(t))))


class DATFuse(nn.Module):
    """The network, with the names of the published state dict."""

    def __init__(self):
        super().__init__()
        self.convolutional = ConvNorm(2, 5)
        self.fem = ConvNorm(WIDTH, 3)
        self.cam = nn.Module()  # channel gate
        self.cam.fc = nn.Sequential(
            nn.Conv2d(WIDTH, 4, 1), nn.ReLU(), nn.Conv2d(4, WIDTH, 1), nn.Sigmoid()
        )
        self.sam = nn.Module()  # spatial gate
        self.sam.body = nn.Sequential(
            nn.Conv2d(WIDTH, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 1, 3, padding=1),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        )
        self.patch_embed = nn.Module()
        self.patch_embed.norm = nn.LayerNorm(96)  # stored, never used
        self.basicLayer = nn.Module()
        self.basicLayer.blocks = nn.Sequential(TokenBlock(), TokenBlock())
        self.convolutional_out = nn.Module()
        self.convolutional_out.conv = nn.Conv2d(WIDTH, 1, 1)

    def features(self, x: Tensor) -> Tensor:
        """The same convolution and the same BatchNorm twice, (B, 16, H, W) → (B, 16, H, W)."""
        return self.fem.without_relu(self.fem(x))

    def gated(self, f: Tensor) -> Tensor:
        """Features weighted by channel plus features weighted by place, (B, 16, H, W)."""
        channels = self.cam.fc(f.mean(dim=(2, 3), keepdim=True))  # (B, 16, 1, 1)
        return f * channels + f * self.sam.body(f)  # places: (B, 1, H, W)

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Infrared and grey, (B, 1, H, W) in [0, 1] → (B, 1, H, W) in [-1, 1], seldom below 0."""
        f0 = self.convolutional(torch.cat([ir, vi], dim=1))  # (B, 16, H, W)
        e = F.relu(self.gated(self.features(f0)) + f0)
        # The memory is read anew: a token is 16 neighbours in a row of one channel,
        # not the 16 channels of a pixel.
        tokens = e.contiguous().view(len(e), -1, WIDTH)  # (B, H·W, 16)
        t = self.basicLayer.blocks(tokens).view_as(e)  # (B, 16, H, W)
        g = self.features(t)
        return torch.tanh(self.convolutional_out.conv(self.gated(g) + g))


def apply(net: DATFuse, ir: Array, vi: Array) -> Array:
    """(H, W) and (H, W, 3) → (H, W), all uint8. Cut off, not clipped: below 0 wraps to white."""
    fused = net(unit_tensor(ir), unit_tensor(grey(vi)))[0, 0].numpy()
    return (fused * np.float32(255)).astype(np.int32).astype(np.uint8)


METHOD = NetworkMethod(name="DATFuse", title="DATFuse", group="paper", build=DATFuse, apply=apply)
