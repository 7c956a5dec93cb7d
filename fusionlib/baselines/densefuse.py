"""DenseFuse: an auto-encoder with a dense block; decoded is the mean of the two codes.

H. Li, X.-J. Wu, DenseFuse: A fusion approach to infrared and visible images, IEEE TIP 28(5), 2019,
doi:10.1109/TIP.2018.2887342.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionlib.baselines.method import Array, NetworkMethod, grey, truncated

WIDTH = 16


def conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    """3×3 convolution over a reflected border."""
    return nn.Conv2d(channels_in, channels_out, 3, padding=1, padding_mode="reflect")


class DenseFuse(nn.Module):
    """Encoder (``first``, ``dense``), shared by both images, and decoder."""

    def __init__(self):
        super().__init__()
        self.first = conv(1, WIDTH)
        self.dense = nn.ModuleList(conv((i + 1) * WIDTH, WIDTH) for i in range(3))
        self.decode = nn.ModuleList([conv(64, 64), conv(64, 32), conv(32, 16), conv(16, 1)])

    def encode(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) → (B, 64, H, W)."""
        f = F.relu(self.first(x))
        for layer in self.dense:
            f = torch.cat([f, F.relu(layer(f))], dim=1)  # (B, 32, H, W), then 48, then 64
        return f

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Infrared and grey, (B, 1, H, W), levels 0–255, H and W ≥ 2 → the same, any range."""
        f = (self.encode(ir) + self.encode(vi)) / 2
        for layer in self.decode[:-1]:
            f = F.relu(layer(f))
        return self.decode[-1](f)


def apply(net: DenseFuse, ir: Array, vi: Array) -> Array:
    """(H, W) and (H, W, 3) → (H, W), all uint8, clipped and cut off."""
    tensors = (torch.from_numpy(image.astype(np.float32))[None, None] for image in (ir, grey(vi)))
    return truncated(net(*tensors).clamp(0, 255))


METHOD = NetworkMethod(
    name="DenseFuse",
    title="DenseFuse",
    group="additional",
    build=DenseFuse,
    apply=apply,
    renamed=(
        (r"\.conv2d\.", "."),
        (r"^conv1\.", "first."),
        (r"^DB1\.denseblock\.(\d)\.dense_conv\.", r"dense.\1."),
        (r"^conv2\.", "decode.0."),
        (r"^conv3\.", "decode.1."),
        (r"^conv4\.", "decode.2."),
        (r"^conv5\.", "decode.3."),
    ),
)
