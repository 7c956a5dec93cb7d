"""LRRNet: unrolled optimisation of a low-rank representation.

The code Z has 256 channels at full resolution: 1.3 GB for 1280×1024. It exists once and is changed
in place, and a convolution from or to it is one product of matrices, without a padded copy.

H. Li et al., LRRNet: A novel representation learning guided fusion network for infrared and visible
images, IEEE TPAMI 45(9), 2023, doi:10.1109/TPAMI.2023.3268209.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionlib.baselines.method import Array, NetworkMethod, grey, truncated

CODE = 256  # channels of Z; the first half is the low-rank part, the second the salient one
STEPS = 4
AT_ONCE = 4  # channels of Z that are thresholded together, so that they stay in the cache
EPSILON = 1e-5


def reflected(x: Tensor) -> Tensor:
    """Border of one reflected pixel, (c, H, W) → (c, H + 2, W + 2)."""
    return F.pad(x[None], (1, 1, 1, 1), mode="reflect")[0]


def to_one(conv: nn.Conv2d, z: Tensor) -> Tensor:
    """3×3 convolution of c channels to one, (c, H, W) → (1, H, W).

    Each of its nine taps first weighs the channels, and then moves one image instead of c.
    """
    height, width = z.shape[1:]
    taps = conv.weight[0].flatten(1).T @ z.flatten(1)  # (9, H·W)
    taps = reflected(taps.view(9, height, width))  # (9, H + 2, W + 2)
    moved = (taps[3 * y + x, y : y + height, x : x + width] for y in range(3) for x in range(3))
    return (sum(moved) + conv.bias)[None]


class Encoder(nn.Module):
    """Z of one image after `STEPS` steps; all steps share thresholds and decay."""

    def __init__(self):
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(1, CODE))
        self.decay = nn.Parameter(torch.ones(1, 1))
        self.first = nn.Conv2d(1, CODE, 3)
        self.to_image = nn.ModuleList(nn.Conv2d(CODE, 1, 3) for _ in range(STEPS))
        self.to_code = nn.ModuleList(nn.Conv2d(1, CODE, 3) for _ in range(STEPS))

    def update(self, z: Tensor, conv: nn.Conv2d, image: Tensor) -> None:
        """In place: z ← T(decay · z + conv(image)), T(r) = sign(r) · max(|r| − threshold, 0).

        T is written out because some thresholds are slightly negative, which library functions
        refuse.
        """
        z = z.view(CODE, -1)  # (256, H·W)
        neighbours = F.unfold(reflected(image)[None], 3)[0]  # (9, H·W)
        z.addmm_(conv.weight.flatten(1), neighbours, beta=self.decay.item())
        rows = (tensor.split(AT_ONCE) for tensor in (z, conv.bias, self.threshold[0]))
        for r, bias, threshold in zip(*rows, strict=True):
            r.add_(bias[:, None])
            size = (r.abs() - threshold[:, None]).clamp_min_(0)
            r.sign_().mul_(size)

    def forward(self, x: Tensor) -> Tensor:
        """(1, H, W) → (256, H, W)."""
        z = x.new_zeros(CODE, *x.shape[1:])
        self.update(z, self.first, x)  # z is 0 before: T(first(x))
        for to_image, to_code in zip(self.to_image, self.to_code, strict=True):
            self.update(z, to_code, x - to_one(to_image, z))
        return z


class LRRNet(nn.Module):
    """Two encoders of one shape, and a decoder without activations."""

    def __init__(self):
        super().__init__()
        self.encode_ir, self.encode_vi = Encoder(), Encoder()
        self.low_ir, self.salient_ir = nn.Conv2d(CODE // 2, 1, 3), nn.Conv2d(CODE // 2, 1, 3)
        self.low_vi, self.salient_vi = nn.Conv2d(CODE // 2, 1, 3), nn.Conv2d(CODE // 2, 1, 3)
        self.low, self.salient = nn.Conv2d(2, 1, 3), nn.Conv2d(2, 1, 3)

    @torch.no_grad()  # Z is overwritten
    def forward(self, ir: Tensor, vi: Tensor) -> Tensor:
        """Infrared and grey, (1, H, W) in [0, 1], H and W ≥ 2 → (1, H, W), any range."""
        low, salient = self.encode_ir(ir).chunk(2)  # (128, H, W)
        low_ir, salient_ir = to_one(self.low_ir, low), to_one(self.salient_ir, salient)
        del low, salient  # before the other Z is made
        low, salient = self.encode_vi(vi).chunk(2)
        low_vi, salient_vi = to_one(self.low_vi, low), to_one(self.salient_vi, salient)
        low = to_one(self.low, torch.cat([low_ir, low_vi]))  # (1, H, W)
        return low + to_one(self.salient, torch.cat([salient_ir, salient_vi]))


def stretched(image: Tensor) -> Tensor:
    """From its own minimum and maximum to 0 and (almost) 1."""
    low, high = image.min(), image.max()
    return (image - low) / (high - low + EPSILON)


def apply(net: LRRNet, ir: Array, vi: Array) -> Array:
    """(H, W) and (H, W, 3) → (H, W), all uint8; both inputs and the output are stretched."""
    tensors = (torch.from_numpy(image.astype(np.float32))[None] for image in (ir, grey(vi)))
    fused = net(*(stretched(image) for image in tensors))  # (1, H, W)
    return truncated(stretched(fused)[None] * 255)


METHOD = NetworkMethod(
    name="LRRNet",
    title="LRRNet",
    group="paper",
    build=LRRNet,
    apply=apply,
    renamed=(
        (r"\.conv2d\.", "."),
        (r"^get_ls1\.", "encode_ir."),
        (r"^get_ls2\.", "encode_vi."),
        (r"lamj$", "threshold"),
        (r"lamz$", "decay"),
        (r"conv_W00", "first"),
        (r"lrrblock(\d)\.conv_Wdz", r"to_image.\1"),
        (r"lrrblock(\d)\.conv_Wdtz", r"to_code.\1"),
        (r"^decoder\.conv_ReZ(.)", r"low_\1"),
        (r"^decoder\.conv_ReU(.)", r"salient_\1"),
        (r"^(low|salient)_x", r"\1_ir"),
        (r"^(low|salient)_y", r"\1_vi"),
        (r"^decoder\.conv_ReL", "low"),
        (r"^decoder\.conv_ReH", "salient"),
    ),
)
