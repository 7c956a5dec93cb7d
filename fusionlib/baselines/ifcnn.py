"""IFCNN-MAX: the stem of a ResNet, one convolution, element-wise maximum, two convolutions.

Y. Zhang et al., IFCNN: A general image fusion framework based on convolutional neural network,
Information Fusion 54, 2020, doi:10.1016/j.inffus.2019.07.011.
"""

import torch
from torch import Tensor, nn

from fusionlib.baselines.method import Array, NetworkMethod, grey, unit_tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
WIDTH = 64


def conv_norm() -> nn.Sequential:
    """3×3 convolution over a replicated border, BatchNorm, ReLU; (B, 64, H, W) to the same."""
    return nn.Sequential(
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1, padding_mode="replicate", bias=False),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(inplace=True),
    )


class IFCNN(nn.Module):
    """The network; images are RGB, normalised with the statistics of ImageNet."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 7, padding=3, padding_mode="replicate", bias=False)
        self.conv2 = conv_norm()
        self.conv3 = conv_norm()
        self.conv4 = nn.Conv2d(WIDTH, 3, 1)

    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """2 × (B, 3, H, W), normalised → (B, 3, H, W), normalised."""
        fused = torch.maximum(self.conv2(self.conv1(ir)), self.conv2(self.conv1(vi)))
        return self.conv4(self.conv3(fused))  # fused: (B, 64, H, W)


def apply(net: IFCNN, ir: Array, vi: Array) -> Array:
    """(H, W) and (H, W, 3) → (H, W), all uint8: grey levels of the RGB image that comes out."""
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
    fused = net(*((unit_tensor(image) - mean) / std for image in (ir, grey(vi))))
    levels = ((fused * std + mean).clamp(0, 1) * 255).to(torch.uint8)  # cut off, (1, 3, H, W)
    return grey(levels[0].permute(1, 2, 0).contiguous().numpy())


METHOD = NetworkMethod(
    name="IFCNN",
    title="IFCNN-MAX",
    group="additional",
    build=IFCNN,
    apply=apply,
    renamed=((r"\.conv\.", ".0."), (r"\.bn\.", ".1.")),
)
