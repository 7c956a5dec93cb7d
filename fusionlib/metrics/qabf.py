"""Q_AB/F: how much of the sources' edges the fused image keeps."""

import numpy as np
from numpy.typing import ArrayLike

from fusionlib.errors import UndefinedError
from fusionlib.metrics.comparison import Array, Comparison, Sources, or_nan
from fusionlib.metrics.filters import arctan, bands, exp, sobel

# Γ, κ, σ of strength (g) and orientation (a), Xydeas and Petrovic
GAIN_G, SLOPE_G, MIDDLE_G = 0.9994, -15, 0.5
GAIN_A, SLOPE_A, MIDDLE_A = 0.9879, -22, 0.8


def qabf(ir: ArrayLike, vi: ArrayLike, fused: ArrayLike) -> float:
    """Edge preservation Q_AB/F.

    Formula:
        Σ (Q_IF g_I + Q_VF g_V) / Σ (g_I + g_V), with Q_SF = Γ_g / (1 + exp(κ_g (G − σ_g))) ·
        Γ_a / (1 + exp(κ_a (A − σ_a))), G the ratio of the weaker to the stronger Sobel magnitude
        and A = 1 − |a_S − a_F| / (π/2) the likeness of orientations.

    Args:
        ir: infrared, (H, W), grey levels 0…255.
        vi: luma of the visible image, the same.
        fused: fused luma, the same.

    Returns:
        0…1, higher is better; NaN if both sources are black (other constants have edges at the
        zero border).

    Raises:
        MetricError: see `fusionlib.metrics.comparison.check_luma`; different shapes.

    Source:
        C. S. Xydeas, V. Petrovic, Electronics Letters 36(4), 2000. doi:10.1049/el:20000267

    Traps:
        Zero border (replicating it changes 5 %); orientation is arctan(−Gy / Gx), not
        four-quadrant (4 %), π/2 where Gx = 0, its difference is not folded (10 %); equal
        magnitudes give G = g_F; grey levels are not scaled to 0…1.
    """
    return or_nan(from_comparison, Comparison(Sources(ir, vi), fused))


def from_comparison(pair: Comparison) -> float:
    """As `qabf`, raising UndefinedError where that gives NaN."""
    sources = pair.sources.once("qabf", lambda: [_edges(x) for x in pair.sources.images])
    height, width = pair.fused.shape
    weight = sum(strength.sum() for strength, _ in sources)
    if weight == 0:
        raise UndefinedError("both sources are black: there is no edge to keep")
    padded = np.pad(pair.fused, 1)
    kept = 0.0
    for top, end in bands(height, width):
        g_f, a_f = _strength_and_orientation(padded[top : end + 2])
        for strength, orientation in sources:
            g_s, a_s = strength[top:end], orientation[top:end]
            kept += float((g_s / _reciprocal(g_s, a_s, g_f, a_f)).sum())
    return GAIN_G * GAIN_A * kept / weight


def _reciprocal(g_s: Array, a_s: Array, g_f: Array, a_f: Array) -> Array:
    """Γ_g Γ_a / Q_SF, per pixel."""
    ratio = np.minimum(g_s, g_f)
    with np.errstate(invalid="ignore"):  # 0 / 0 where both are flat, replaced in the next line
        ratio /= np.maximum(g_s, g_f)
    np.copyto(ratio, g_f, where=g_s == g_f)  # equal magnitudes: G is g_F itself
    ratio -= MIDDLE_G
    ratio *= SLOPE_G
    likeness = a_s - a_f
    np.abs(likeness, out=likeness)
    likeness *= -SLOPE_A / (np.pi / 2)
    likeness += SLOPE_A * (1 - MIDDLE_A)
    product, factor = exp(ratio), exp(likeness)
    product += 1
    factor += 1
    product *= factor
    return product


def _edges(image: Array) -> tuple[Array, Array]:
    """Strength and orientation of a whole image."""
    strength, orientation = np.empty_like(image), np.empty_like(image)
    padded = np.pad(image, 1)
    for top, end in bands(*image.shape):
        band = _strength_and_orientation(padded[top : end + 2])
        strength[top:end], orientation[top:end] = band
    return strength, orientation


def _strength_and_orientation(padded: Array) -> tuple[Array, Array]:
    g_x, g_y = sobel(padded)
    with np.errstate(divide="ignore", invalid="ignore"):  # by 0, replaced in the next line
        orientation = arctan(-g_y / g_x)
    orientation[g_x == 0] = np.pi / 2
    g_x *= g_x
    g_y *= g_y
    g_x += g_y
    return np.sqrt(g_x, out=g_x), orientation
