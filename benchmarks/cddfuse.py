"""A network of the shape of CDDFuse with random weights, written plainly; for its cost only.

Zhao et al., CVPR 2023, the closest published relative of this project's network: Restormer blocks
at full resolution. Its weights are not needed to know how long it takes.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS, BLOCKS = 64, 8, 4
PARAMETERS = 1_188_272  # of the published network


class Norm(nn.LayerNorm):
    """Over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        height = x.shape[-2]
        x = super().forward(rearrange(x, "b c h w -> b (h w) c"))
        return rearrange(x, "b (h w) c -> b c h w", h=height)


class Attention(nn.Module):
    """Between channels, by heads."""

    def __init__(self, groups: int):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv = nn.Conv2d(WIDTH, 3 * WIDTH, 1, bias=False)
        self.local = nn.Conv2d(3 * WIDTH, 3 * WIDTH, 3, padding=1, groups=groups, bias=False)
        self.project = nn.Conv2d(WIDTH, WIDTH, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        parts = self.local(self.qkv(x)).chunk(3, dim=1)
        q, k, v = (rearrange(t, "b (n c) h w -> b n c (h w)", n=HEADS) for t in parts)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        attention = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        mixed = rearrange(attention @ v, "b n c (h w) -> b (n c) h w", h=x.shape[-2])
        return self.project(mixed)


class FeedForward(nn.Module):
    """Two branches, one gating the other."""

    def __init__(self, expansion: int, groups: int):
        super().__init__()
        hidden = WIDTH * expansion
        self.expand = nn.Conv2d(WIDTH, 2 * hidden, 1, bias=False)
        self.local = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=groups, bias=False)
        self.project = nn.Conv2d(hidden, WIDTH, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        gate, value = self.local(self.expand(x)).chunk(2, dim=1)
        return self.project(F.gelu(gate) * value)


class Block(nn.Module):
    """A Restormer block; with ``full`` the base branch, whose qkv meets a full 3×3 convolution."""

    def __init__(self, full: bool = False):
        super().__init__()
        self.norm_1, self.norm_2 = Norm(WIDTH), Norm(WIDTH)
        self.attention = Attention(groups=1 if full else 3 * WIDTH)
        expansion = 1 if full else 2
        self.feed_forward = FeedForward(expansion, groups=WIDTH if full else 2 * expansion * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        x = x + self.attention(self.norm_1(x))
        return x + self.feed_forward(self.norm_2(x))


def inverted_residual() -> nn.Sequential:
    """32 → 64 → 32 channels."""
    half = WIDTH // 2
    return nn.Sequential(
        nn.Conv2d(half, WIDTH, 1, bias=False),
        nn.ReLU6(),
        nn.ReflectionPad2d(1),
        nn.Conv2d(WIDTH, WIDTH, 3, groups=WIDTH, bias=False),
        nn.ReLU6(),
        nn.Conv2d(WIDTH, half, 1, bias=False),
    )


class DetailNode(nn.Module):
    """An invertible affine coupling."""

    def __init__(self):
        super().__init__()
        self.shuffle = nn.Conv2d(WIDTH, WIDTH, 1)
        self.phi, self.rho, self.eta = (inverted_residual() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        z_1, z_2 = self.shuffle(x).chunk(2, dim=1)
        z_2 = z_2 + self.phi(z_1)
        z_1 = z_1 * self.rho(z_2).exp() + self.eta(z_2)
        return torch.cat([z_1, z_2], dim=1)


class CDDFuseShape(nn.Module):
    """(1, 1, H, W) infrared and luma → (1, 1, H, W)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, WIDTH, 3, padding=1, bias=False), *(Block() for _ in range(BLOCKS))
        )
        self.base, self.fuse_base = Block(full=True), Block(full=True)
        self.detail = nn.Sequential(*(DetailNode() for _ in range(3)))
        self.fuse_detail = DetailNode()
        self.decoder = nn.Sequential(
            nn.Conv2d(2 * WIDTH, WIDTH, 1, bias=False),
            *(Block() for _ in range(BLOCKS)),
            nn.Conv2d(WIDTH, WIDTH // 2, 3, padding=1, bias=False),
            nn.LeakyReLU(),
            nn.Conv2d(WIDTH // 2, 1, 3, padding=1, bias=False),
        )
        assert sum(p.numel() for p in self.parameters()) == PARAMETERS

    def forward(self, ir: Tensor, y: Tensor) -> Tensor:
        """2 × (B, 1, H, W) → (B, 1, H, W)."""
        base, detail = 0, 0
        for image in (ir, y):
            features = self.encoder(image)
            base, detail = base + self.base(features), detail + self.detail(features)
        fused = torch.cat([self.fuse_base(base), self.fuse_detail(detail)], dim=1)
        return torch.sigmoid(self.decoder(fused) + y)
