"""SeAFusion: two streams of gradient-residual dense blocks, a plain decoder.

L. Tang, J. Yuan, J. Ma, Image fusion in the loop of high-level vision tasks: A semantic-aware
real-time infrared and visible image fusion network, Information Fusion 82, 2022,
doi:10.1016/j.inffus.2021.12.004.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionlib.baselines.method import Array, NetworkMethod, grey, truncated, unit_tensor


class GradientDenseBlock(nn.Module):
    """Two densely connected convolutions, plus the sizes of learned derivatives of the input."""

    def __init__(self, width: int, out: int):
        super().__init__()
        self.dense1 = nn.Conv2d(width, width, 3, padding=1)
        self.dense2 = nn.Conv2d(2 * width, width, 3, padding=1)
        self.dense_out = nn.Conv2d(3 * width, out, 1)
        self.gradient_x = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.gradient_y = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.gradient_out = nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) → (B, out, H, W)."""
        f = torch.cat([x, F.leaky_relu(self.dense1(x), 0.2)], dim=1)  # (B, 2c, H, W)
        f = torch.cat([f, F.leaky_relu(self.dense2(f), 0.2)], dim=1)  # (B, 3c, H, W)
        gradient = self.gradient_x(x).abs() + self.gradient_y(x).abs()  # (B, c, H, W)
        return F.leaky_relu(self.dense_out(f) + self.gradient_out(gradient), 0.1)


class Stream(nn.Module):
    """Features of one modality."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.block1 = GradientDenseBlock(16, 32)
        self.block2 = GradientDenseBlock(32, 48)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) → (B, 48, H, W)."""
        return self.block2(self.block1(F.leaky_relu(self.first(x), 0.2)))


def decoder_layer(channels_in: int, channels_out: int) -> nn.ModuleDict:
    """3×3 convolution; a BatchNorm is stored with it and never applied."""
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    return nn.ModuleDict({"conv": conv, "bn": nn.BatchNorm2d(channels_out)})


class SeAFusion(nn.Module):
    """Both streams and the decoder."""

    def __init__(self):
        super().__init__()
        self.ir, self.vi = Stream(), Stream()
        self.decode4 = decoder_layer(96, 64)
        self.decode3 = decoder_layer(64, 32)
        self.decode2 = decoder_layer(32, 16)
        self.decode1 = decoder_layer(16, 1)

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Infrared and luma, (B, 1, H, W) in [0, 1] → (B, 1, H, W) in [0, 1]."""
        f = torch.cat([self.vi(vi), self.ir(ir)], dim=1)  # (B, 96, H, W)
        for layer in (self.decode4, self.decode3, self.decode2):
            f = F.leaky_relu(layer.conv(f), 0.2)
        return torch.tanh(self.decode1.conv(f)) / 2 + 0.5


def apply(net: SeAFusion, ir: Array, vi: Array) -> Array:
    """(H, W) and (H, W, 3) → (H, W), all uint8, stretched and cut off.

    What the authors' program makes of a grey visible image. Of one in colour it stretches R, G and
    B together, so that the darkest and brightest colour decide how much the luma is stretched.
    """
    fused = net(unit_tensor(ir), unit_tensor(grey(vi))).clamp(0, 1)
    low, high = fused.min(), fused.max()
    if high > low:  # the authors' program would divide by zero
        fused = (fused - low) / (high - low)
    return truncated(fused * 255)


METHOD = NetworkMethod(
    name="SeAFusion",
    title="SeAFusion",
    group="additional",
    build=SeAFusion,
    apply=apply,
    renamed=(
        (r"^vis_", "vi_"),
        (r"^inf_", "ir_"),
        (r"^(ir|vi)_conv\.conv\.", r"\1.first."),
        (r"^(ir|vi)_rgbd(\d)\.", r"\1.block\2."),
        (r"\.dense\.conv(\d)\.conv\.", r".dense\1."),
        (r"\.convdown\.conv\.", ".dense_out."),
        (r"\.sobelconv\.conv(.)\.", r".gradient_\1."),
        (r"\.convup\.conv\.", ".gradient_out."),
    ),
)
