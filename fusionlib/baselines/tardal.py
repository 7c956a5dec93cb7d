"""TarDAL: the generator, with the batch statistics of the one image that is fused.

J. Liu et al., Target-aware dual adversarial learning and a multi-scenario multi-modality benchmark
to fuse infrared and visible for object detection, CVPR 2022, doi:10.1109/CVPR52688.2022.00571.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionlib.baselines.method import Array, NetworkMethod, grey, truncated, unit_tensor

WIDTH = 32
DENSE = 3


class ImageNorm(nn.BatchNorm2d):
    """BatchNorm with the image's own statistics; the running ones are stored and not used.

    The authors run these weights (``tardal.pt``) without evaluation mode.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) → (1, C, H, W); more than one pixel."""
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


def layer(channels_in: int, channels_out: int) -> nn.Sequential:
    """3×3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        ImageNorm(channels_out),
        nn.ReLU(inplace=True),
    )


class TarDAL(nn.Module):
    """The generator, with the names of the published state dict."""

    def __init__(self):
        super().__init__()
        self.encoder = layer(2, WIDTH)
        self.dense = nn.ModuleList(layer((i + 1) * WIDTH, WIDTH) for i in range(DENSE))
        width = (DENSE + 1) * WIDTH
        self.fuse = nn.Sequential(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)),
            layer(width, 2 * WIDTH),
            layer(2 * WIDTH, WIDTH),
            nn.Sequential(nn.Conv2d(WIDTH, 1, 3, padding=1), nn.Tanh()),
        )

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Infrared and grey, (1, 1, H, W) in [0, 1] → (1, 1, H, W) in [-1, 1]."""
        f = self.encoder(torch.cat([ir, vi], dim=1))  # (1, 32, H, W)
        for dense in self.dense:
            f = torch.cat([f, dense(f)], dim=1)  # (1, 64, H, W), then 96, then 128
        return self.fuse(f)


def apply(net: TarDAL, ir: Array, vi: Array) -> Array:
    """(H, W) and (H, W, 3) → (H, W), all uint8, clipped and cut off."""
    fused = net(unit_tensor(ir), unit_tensor(grey(vi)))
    return truncated(fused.clamp(0, 1) * 255)


METHOD = NetworkMethod(name="TarDAL", title="TarDAL", group="additional", build=TarDAL, apply=apply)
