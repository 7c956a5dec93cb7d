"""DIDFuse: an auto-encoder with a base and a detail head; both images' features are added.

Z. Zhao et al., DIDFuse: Deep image decomposition for infrared and visible image fusion, IJCAI 2020,
doi:10.24963/ijcai.2020/135.
"""

import torch
from torch import Tensor, nn

from fusionlib.baselines.method import Array, NetworkMethod, grey, unit_tensor

WIDTH = 64


def layer(channels_in: int, activation: nn.Module) -> nn.Sequential:
    """3×3 convolution over zeros, BatchNorm, activation; (B, c, H, W) → (B, 64, H, W)."""
    return nn.Sequential(
        nn.Conv2d(channels_in, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), activation
    )


def edge_layer(channels_in: int, channels_out: int, activation: nn.Module) -> nn.Sequential:
    """The first and the last layer, over a reflected border."""
    return nn.Sequential(
        nn.ReflectionPad2d(1),
        nn.Conv2d(channels_in, channels_out, 3),
        nn.BatchNorm2d(channels_out),
        activation,
    )


class DIDFuse(nn.Module):
    """Encoder (layers 1 to 4, shared by both images) and decoder (5 to 7)."""

    def __init__(self):
        super().__init__()
        self.cov1 = edge_layer(1, WIDTH, nn.PReLU())
        self.cov2 = layer(WIDTH, nn.PReLU())
        self.cov3 = layer(WIDTH, nn.Tanh())
        self.cov4 = layer(WIDTH, nn.Tanh())
        self.cov5 = layer(2 * WIDTH, nn.PReLU())
        self.cov6 = layer(2 * WIDTH, nn.PReLU())
        self.cov7 = edge_layer(2 * WIDTH, 1, nn.Sigmoid())

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Infrared and grey, (B, 1, H, W) in [0, 1], H and W ≥ 2 → (B, 1, H, W) in [0, 1]."""
        f1_ir, f1_vi = self.cov1(ir), self.cov1(vi)  # (B, 64, H, W)
        f2_ir, f2_vi = self.cov2(f1_ir), self.cov2(f1_vi)
        f1 = f1_ir + f1_vi
        del f1_ir, f1_vi  # 0.3 GB each for 1280×1024
        base = self.cov3(f2_ir) + self.cov3(f2_vi)
        detail = self.cov4(f2_ir) + self.cov4(f2_vi)
        f2 = f2_ir + f2_vi
        del f2_ir, f2_vi
        f = self.cov5(torch.cat([base, detail], dim=1))  # (B, 64, H, W)
        del base, detail
        f = self.cov6(torch.cat([f, f2], dim=1))
        return self.cov7(torch.cat([f, f1], dim=1))


def apply(net: DIDFuse, ir: Array, vi: Array) -> Array:
    """(H, W) and (H, W, 3) → (H, W), all uint8, rounded."""
    fused = net(unit_tensor(ir), unit_tensor(grey(vi)))
    return (fused[0, 0] * 255).round().to(torch.uint8).numpy()


METHOD = NetworkMethod(
    name="DIDFuse",
    title="DIDFuse",
    group="additional",
    build=DIDFuse,
    apply=apply,
    renamed=((r"^(cov\d)\.cov\d\.", r"\1."),),
)
