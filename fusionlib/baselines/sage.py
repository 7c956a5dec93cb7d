"""SAGE: the small U-Net that its authors distil from a network guided by Segment Anything.

Its weights are shipped as safetensors, converted once from checkpoints.pt (sha256
ecfde477ca4cd65401f207d5dc91ce6c475a49891d768dbdb7a66366255ee836).

G. Wu et al., Every SAM drop counts: Embracing semantic priors for multi-modality image fusion and
beyond, CVPR 2025.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionlib.baselines.method import Array, NetworkMethod, unit_tensor
from fusionlib.images import luma

WIDTH = 32


def layers(channels_in: int, size: int, count: int) -> nn.Sequential:
    """``count`` times k×k convolution, BatchNorm, leaky ReLU; (B, c, H, W) → (B, 32, H, W)."""
    parts: list[nn.Module] = []
    for i in range(count):
        width = WIDTH if i else channels_in
        parts += [nn.Conv2d(width, WIDTH, size, padding=size // 2), nn.BatchNorm2d(WIDTH)]
        parts.append(nn.LeakyReLU(0.01, inplace=True))
    return nn.Sequential(*parts)


class SAGE(nn.Module):
    """Three stages down, two up, with the names of the published state dict."""

    def __init__(self):
        super().__init__()
        self.module1 = layers(2, 3, 3)
        self.module2 = layers(WIDTH, 3, 3)
        self.module3 = layers(WIDTH, 3, 3)
        self.adjust_channels4 = layers(2 * WIDTH, 1, 1)
        self.module4 = layers(WIDTH, 3, 3)
        self.adjust_channels5 = layers(2 * WIDTH, 1, 1)
        self.module5 = layers(WIDTH, 3, 3)
        self.final_decoder = nn.Sequential(nn.Conv2d(WIDTH, 1, 3, padding=1), nn.Tanh())

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Infrared and luma, (B, 1, H, W) in [0, 1], H and W ≥ 4 → (B, 1, H, W) in [-1, 1]."""
        f1 = self.module1(torch.cat([vi, ir], dim=1))  # (B, 32, H, W)
        f2 = self.module2(F.max_pool2d(f1, 2))  # (B, 32, H/2, W/2)
        f = self.module3(F.max_pool2d(f2, 2))  # (B, 32, H/4, W/4)
        f = self.module4(self.adjust_channels4(joined(f, f2)))
        f = self.module5(self.adjust_channels5(joined(f, f1)))
        return self.final_decoder(f)


def joined(f: Tensor, skip: Tensor) -> Tensor:
    """Features enlarged to the size of those they skipped, before these: (B, 64, H, W)."""
    f = F.interpolate(f, size=skip.shape[2:], mode="bilinear", align_corners=False)
    return torch.cat([f, skip], dim=1)


def apply(net: SAGE, ir: Array, vi: Array) -> Array:
    """(H, W) and (H, W, 3) → (H, W), all uint8, of the unrounded luma; clipped and rounded."""
    y = torch.from_numpy(luma(vi / 255).astype("float32"))[None, None]
    fused = net(unit_tensor(ir), y)
    return (fused[0, 0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()


METHOD = NetworkMethod(name="SAGE", title="SAGE", group="additional", build=SAGE, apply=apply)
