"""The whole fusion network, top to bottom in one file.

    I_i ──► IRE ──► F_i ──► CII ──►┐
                            ▲      CFF ──► F_f ──► FD ──► fused luma
    I_v ──► VIE ──► F_v ──► CII ──►┘  ▲
                            ▲         │
    frozen image encoder ───┴─────────┘   c_ir, c_vi

Source: Yang et al., MGFusion, Frontiers in Neurorobotics 2024, doi:10.3389/fnbot.2024.1521603,
sections 3.1 to 3.3, to the letter; the Restormer block after Zamir et al., CVPR 2022. What the
paper leaves open is listed in docs/choices.md.
Images are in [-1, 1]. Shapes: B batch, C width, E length of the encoder's feature, H × W pixels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(1, 3, 1, 1)  # BT.601
SOBEL = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that decides the shape of the network.

    Attributes:
        embed: E, length of the image encoder's feature (ViT-B-32: 512, embedded encoder: 1280).
        width: C, channels of the two encoders.
        blocks: N, Restormer blocks in IRE, in VIE and in FD.
        heads: attention heads of a Restormer block; divides ``width``.
        expansion: hidden width of GDFN as a multiple of its input.
        reduction: E / hidden width of Adapter, IRA and VIA.
        use_cii: inject encoder features; False is the ablation "without CII".
        use_cff: fuse guided by encoder features; False concatenates ("without CFF").
    """

    embed: int = 512
    width: int = 32
    blocks: int = 2
    heads: int = 4
    expansion: float = 2.66
    reduction: int = 8
    use_cii: bool = True
    use_cff: bool = True


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel, (B, C, H, W) to the same."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        x = x.permute(0, 2, 3, 1)
        if x.dtype == self.weight.dtype:
            return super().forward(x).permute(0, 3, 1, 2)
        # autocast would have float32 here, which the next convolution rounds again
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            x = F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)
        return x.permute(0, 3, 1, 2)


def convolution(
    x: Tensor,
    weight: Tensor,
    activation: Literal["none", "gelu"] = "none",
    onto: Tensor | None = None,
) -> Tensor:
    """Convolution that keeps H × W and has no bias, and what follows it.

    Args:
        x: (B, C, H, W).
        weight: (C', C, k, k) with odd k, or (C, 1, k, k) for each channel by itself.
        activation: of the result.
        onto: (B, C', H, W), to which the result is added, in place; without an activation, and
            where no gradient is needed.

    Returns:
        (B, C', H, W).
    """
    padding, groups = weight.shape[-1] // 2, x.shape[1] // weight.shape[1]
    if _is_for_onednn(x, weight):
        # with any number of threads, and with what follows in the same pass
        shape = weight, None, [padding] * 2, [1, 1], [1, 1], groups
        if onto is None:
            return torch.ops.mkldnn._convolution_pointwise(x, *shape, activation, [], "none")
        add = torch.ops.mkldnn._convolution_pointwise_.binary
        return add(onto, x, *shape, "add", None, None, [], None)
    x = F.conv2d(x, weight, padding=padding, groups=groups)
    x = F.gelu(x) if activation == "gelu" else x
    return x if onto is None else onto.add_(x)


def _is_for_onednn(x: Tensor, weight: Tensor) -> bool:
    if (
        torch.is_grad_enabled()
        or x.device.type != "cpu"
        or not torch.backends.mkldnn.is_available()
    ):
        return False
    if x.dtype == weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return x.dtype == weight.dtype == torch.float32


class TransposedAttention(nn.Module):
    """MDTA: attention between channels, so that its cost grows with H·W and not its square.

    In three steps, of which only `sums` sees the whole image: `fusionlib.tiles` adds the sums of
    tiles up, and has the result of the whole image.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=False)
        self.qkv_local = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=False)
        self.project = nn.Conv2d(width, width, 1, bias=False)
        head = torch.arange(width) // (width // heads)
        self.register_buffer("other_head", head[:, None] != head, persistent=False)  # (C, C)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        return self.apply_to(self.values(x), self.mixing(*self.sums(self.queries_and_keys(x))))

    # q and k together, v apart: taking one tensor apart costs a copy on the way back
    def queries_and_keys(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, 2C, H, W)."""
        part = slice(0, 2 * x.shape[1])
        return convolution(convolution(x, self.qkv.weight[part]), self.qkv_local.weight[part])

    def values(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        part = slice(2 * x.shape[1], None)
        return convolution(convolution(x, self.qkv.weight[part]), self.qkv_local.weight[part])

    def sums(self, qk: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over the pixels, (B, 2C, H, W), which may be overwritten, → (B, C, C), (B, 2C).

        Products of every channel of q with every one of k, and squares of all.
        """
        qk, width = rearrange(qk, "b c h w -> b (h w) c"), qk.shape[1] // 2
        if torch.is_grad_enabled():  # more products than needed, but no copies on the way back
            sums = qk.transpose(1, 2) @ qk  # (B, 2C, 2C)
            return sums[:, :width, width:], sums.diagonal(dim1=1, dim2=2)
        return qk[..., :width].transpose(1, 2) @ qk[..., width:], qk.square_().sum(dim=1)

    def mixing(self, products: Tensor, squares: Tensor) -> Tensor:
        """What the values of each pixel are multiplied with, (B, C, C), (B, 2C) → (B, C, C)."""
        width = products.shape[1]
        norms = squares.clamp_min(1e-24).sqrt()  # |q|, |k|, (B, 2C)
        cosines = products / (norms[:, :width, None] * norms[:, None, width:])  # (B, C, C)
        temperature = self.temperature.repeat_interleave(width // len(self.temperature), 0)[:, 0]
        scores = (cosines * temperature).masked_fill(self.other_head, -torch.inf)
        # projecting is linear: apply it to the small matrix, and pass over v once
        return self.project.weight[:, :, 0, 0].to(products) @ scores.softmax(dim=-1)

    def apply_to(self, v: Tensor, mix: Tensor) -> Tensor:
        """(B, C, H, W), (B, C, C) → (B, C, H, W)."""
        mixed = rearrange(v, "b c h w -> b (h w) c") @ mix.transpose(1, 2)  # (B, H·W, C)
        return rearrange(mixed, "b (h w) c -> b c h w", h=v.shape[-2])


class GatedFeedForward(nn.Module):
    """GDFN: two depth-wise convolved branches, one gating the other."""

    def __init__(self, width: int, expansion: float):
        super().__init__()
        hidden = int(width * expansion)
        self.expand = nn.Conv2d(width, 2 * hidden, 1, bias=False)
        self.local = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """(B, C, H, W) → (B, C, H, W); see `convolution` for ``onto``."""
        expand, local = self.expand.weight.chunk(2), self.local.weight.chunk(2)
        gate = convolution(convolution(x, expand[0]), local[0], "gelu")
        value = convolution(convolution(x, expand[1]), local[1])
        gated = gate * value if torch.is_grad_enabled() else gate.mul_(value)  # (B, 2.66 C, H, W)
        return convolution(gated, self.project.weight, onto=onto)


class RestormerBlock(nn.Module):
    """MDTA and GDFN, each normalised before and added to its input."""

    def __init__(self, width: int, heads: int, expansion: float):
        super().__init__()
        self.norm_attention = ChannelNorm(width)
        self.attention = TransposedAttention(width, heads)
        self.norm_feed_forward = ChannelNorm(width)
        self.feed_forward = GatedFeedForward(width, expansion)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        x = x + self.attention(self.norm_attention(x))
        return x + self.feed_forward(self.norm_feed_forward(x))


def restormer(width: int, config: NetworkConfig) -> nn.Sequential:
    """N Restormer blocks of the given width."""
    blocks = (RestormerBlock(width, config.heads, config.expansion) for _ in range(config.blocks))
    return nn.Sequential(*blocks)


def feature_extraction(channels_in: int, channels_out: int) -> nn.Sequential:
    """Feature extraction layer: 3×3 convolution, BatchNorm, LeakyReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),  # BatchNorm has the bias
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.2, inplace=True),
    )


def image_encoder(channels_in: int, config: NetworkConfig) -> nn.Sequential:
    """IRE or VIE: two feature extraction layers, N Restormer blocks; (B, c, H, W) → (B, C, H, W).

    Args:
        channels_in: 1 for infrared, 3 for visible.
        config: width and number of blocks.
    """
    return nn.Sequential(
        feature_extraction(channels_in, config.width),
        feature_extraction(config.width, config.width),
        restormer(config.width, config),
    )


def two_linear(config: NetworkConfig) -> nn.Sequential:
    """Adapter, IRA or VIA: two linear layers, of which the paper names no activation.

    (B, E) → (B, C).
    """
    hidden = max(config.embed // config.reduction, config.width)
    return nn.Sequential(nn.Linear(config.embed, hidden), nn.Linear(hidden, config.width))


def two_convolutions(channels_in: int, hidden: int, channels_out: int) -> nn.Sequential:
    """SEP or SAWP: two 3×3 convolutions and one ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, hidden, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels_out, 3, padding=1),
    )


def sobel(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel derivatives of each channel, replicate border, not scaled.

    Args:
        x: (B, C, H, W).

    Returns:
        Horizontal (right minus left) and vertical (bottom minus top), each (B, C, H, W); a ramp
        of slope s gives 8 s.
    """
    x, channels = F.pad(x, (1, 1, 1, 1), mode="replicate"), x.shape[1]
    across, down = (
        F.conv2d(x, kernel.to(x).expand(channels, 1, 3, 3), groups=channels)
        for kernel in (SOBEL, SOBEL.T)
    )
    return across, down


class InformationInjection(nn.Module):
    """CII: adds what the image encoder knows about the scene to one feature map.

    Equation:
        (1) F^c = A(F_i^c ⊙ W_i + F_v^c ⊙ W_v),  W_v = 1 − W_i
        not numbered: W = sigmoid(SEP(F)), F^s = W ⊙ F^c, broadcast over the pixels
        (2) F̂ = F + F^s
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.w_ir = nn.Parameter(torch.full((config.embed,), 0.5))  # W_i, learnable
        self.adapter = two_linear(config)  # A
        self.sep = two_convolutions(config.width, config.width, config.width)  # SEP

    def forward(self, f: Tensor, c_ir: Tensor, c_vi: Tensor) -> Tensor:
        """(B, C, H, W), (B, E), (B, E) → (B, C, H, W)."""
        mixed = self.w_ir * c_ir + (1 - self.w_ir) * c_vi  # (B, E)
        semantic = self.adapter(mixed)[:, :, None, None]  # F^c, eq. 1, (B, C, 1, 1)
        expansion = torch.sigmoid(self.sep(f))  # W, (B, C, H, W)
        return f + expansion * semantic  # F + F^s, eq. 2


class FeatureFusion(nn.Module):
    """CFF: chooses channels by the encoder's features, and places by the gradients there.

    Equation:
        (3) F_f = [W_i^c ⊙ F̂_i, W_v^c ⊙ F̂_v],  W_i^c = IRA(F_i^c), W_v^c = VIA(F_v^c)
        (4) W_s = sigmoid(S(∇F_f)),  S: SAWP; of ∇, |G_x| + |G_y| is taken
        (5) F̂_f = F_f + W_s ⊙ F_f
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.ira = two_linear(config)
        self.via = two_linear(config)
        self.sawp = two_convolutions(2 * config.width, config.width, 1)

    def forward(self, f_ir: Tensor, f_vi: Tensor, c_ir: Tensor, c_vi: Tensor) -> Tensor:
        """2 × (B, C, H, W), 2 × (B, E) → (B, 2C, H, W)."""
        return self.of_both(torch.cat([f_ir, f_vi], dim=1), c_ir, c_vi)

    def of_both(self, f: Tensor, c_ir: Tensor, c_vi: Tensor) -> Tensor:
        """The same with F̂_i and F̂_v side by side, (B, 2C, H, W)."""
        w_ir = self.ira(c_ir)  # W_i^c, (B, C)
        w_vi = self.via(c_vi)  # W_v^c, (B, C)
        f_fused = torch.cat([w_ir, w_vi], dim=1)[:, :, None, None] * f  # eq. 3, (B, 2C, H, W)
        g_x, g_y = sobel(f_fused)
        w_spatial = torch.sigmoid(self.sawp(g_x.abs() + g_y.abs()))  # eq. 4, (B, 1, H, W)
        return f_fused + w_spatial * f_fused  # eq. 5


class FusionNet(nn.Module):
    """Infrared and visible image and their encoder features in, fused luma out.

    Args:
        config: see `NetworkConfig`.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.ire = image_encoder(1, config)
        self.vie = image_encoder(3, config)
        if config.use_cii:
            self.cii_ir = InformationInjection(config)
            self.cii_vi = InformationInjection(config)
        if config.use_cff:
            self.cff = FeatureFusion(config)
        self.decoder = nn.Sequential(  # FD
            restormer(2 * config.width, config),
            feature_extraction(2 * config.width, config.width),
            nn.Conv2d(config.width, 1, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, ir: Tensor, vi: Tensor, c_ir: Tensor, c_vi: Tensor) -> Tensor:
        """Fuse.

        Args:
            ir: infrared, (B, 1, H, W), in [-1, 1].
            vi: visible RGB, (B, 3, H, W), in [-1, 1].
            c_ir: the encoder's features of ``ir``, (B, E), any scale.
            c_vi: the same of ``vi``.

        Returns:
            Fused luma, (B, 1, H, W), in [-1, 1].
        """
        # Encoders differ in the scale of their features; the linear layers want entries near 1.
        scale = self.config.embed**0.5
        c_ir, c_vi = F.normalize(c_ir) * scale, F.normalize(c_vi) * scale
        f_ir, f_vi = self.ire(ir), self.vie(vi)  # F_i, F_v, (B, C, H, W)
        if self.config.use_cii:
            f_ir, f_vi = self.cii_ir(f_ir, c_ir, c_vi), self.cii_vi(f_vi, c_ir, c_vi)
        if self.config.use_cff:
            f_fused = self.cff(f_ir, f_vi, c_ir, c_vi)  # (B, 2C, H, W)
        else:
            f_fused = torch.cat([f_ir, f_vi], dim=1)  # (B, 2C, H, W)
        return self.decoder(f_fused)  # I_f, (B, 1, H, W)
