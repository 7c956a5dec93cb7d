"""DATFuse: residual attention around two transformer blocks whose windows are single tokens.

W. Tang et al., DATFuse: Infrared and visible image fusion via dual attention transformer, IEEE
TCSVT 33(7), 2023, doi:10.1109/TCSVT.2023.3234340.
"""

from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionlib.baselines.method import Array, NetworkMethod, grey, unit_tensor

WIDTH = 16


def conv_norm(channels_in: int, size: int) -> nn.Sequential:
    """k×k convolution over a replicated border, BatchNorm; (B, c, H, W) → (B, 16, H, W)."""
    conv = nn.Conv2d(channels_in, WIDTH, size, padding=size // 2, padding_mode="replicate")
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(WIDTH)))


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
        fc1, fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.mlp = nn.Sequential(OrderedDict(fc1=fc1, gelu=nn.GELU(), fc2=fc2))

    def forward(self, t: Tensor) -> Tensor:
        """Tokens (B, T, 16) → (B, T, 16)."""
        qkv = self.attn.qkv
        values = F.linear(self.norm1(t), qkv.weight[2 * WIDTH :], qkv.bias[2 * WIDTH :])
        t = t + self.attn.proj(values)
        return t + self.mlp(self.norm2(t))


class DATFuse(nn.Module):
    """The network, with the names of the published state dict."""

    def __init__(self):
        super().__init__()
        self.convolutional = conv_norm(2, 5)
        self.fem = conv_norm(WIDTH, 3)
        channel_gate = nn.Sequential(
            nn.Conv2d(WIDTH, 4, 1), nn.ReLU(), nn.Conv2d(4, WIDTH, 1), nn.Sigmoid()
        )
        spatial_gate = nn.Sequential(
            nn.Conv2d(WIDTH, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 1, 3, padding=1),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        )
        self.cam = nn.ModuleDict({"fc": channel_gate})
        self.sam = nn.ModuleDict({"body": spatial_gate})
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(96)})  # stored, never used
        self.basicLayer = nn.ModuleDict({"blocks": nn.Sequential(TokenBlock(), TokenBlock())})
        self.convolutional_out = nn.ModuleDict({"conv": nn.Conv2d(WIDTH, 1, 1)})

    def features(self, x: Tensor) -> Tensor:
        """The same convolution and the same BatchNorm twice, (B, 16, H, W) → (B, 16, H, W)."""
        return self.fem(F.relu(self.fem(x)))

    def gated(self, f: Tensor) -> Tensor:
        """Features weighted by channel plus features weighted by place, (B, 16, H, W)."""
        channels = self.cam.fc(f.mean(dim=(2, 3), keepdim=True))  # (B, 16, 1, 1)
        return f * channels + f * self.sam.body(f)  # places: (B, 1, H, W)

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Infrared and grey, (B, 1, H, W) in [0, 1] → (B, 1, H, W) in [-1, 1], seldom below 0."""
        f0 = F.relu(self.convolutional(torch.cat([ir, vi], dim=1)))  # (B, 16, H, W)
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
