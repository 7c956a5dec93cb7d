"""Q_AB/F: how much of the sources' edges the fused image keeps."""

import numpy as np
from numpy.typing import ArrayLike

from fusionlib.errors import UndefinedError
from fusionlib.metrics.filters import in_bands, sobel, whole
from fusionlib.metrics.luma import Array, Luma, check, nan_where_undefined

# Γ, κ, σ of strength (g) and orientation (α), Xydeas and Petrovic
GAMMA_G, KAPPA_G, SIGMA_G = 0.9994, -15, 0.5
GAMMA_A, KAPPA_A, SIGMA_A = 0.9879, -22, 0.8


@nan_where_undefined
def qabf(ir: ArrayLike, vi: ArrayLike, fused: ArrayLike) -> float:
    """Edge preservation Q_AB/F.

    Σ (Q_IF g_I + Q_VF g_V) / Σ (g_I + g_V), with Q_SF = Γ_g / (1 + exp(κ_g (G − σ_g))) ·
    Γ_α / (1 + exp(κ_α (A − σ_α))), G the ratio of the weaker to the stronger Sobel magnitude
    and A = 1 − |α_S − α_F| / (π/2) the likeness of orientations.

    Arguments: luma (H, W) of one shape, grey levels 0…255; else MetricError.
    Returns: 0…1, higher is better; NaN if both sources are black (other constants have edges at
    the zero border).
    Source: C. S. Xydeas, V. Petrovic, Electronics Letters 36(4), 2000, doi:10.1049/el:20000267.
    Traps: zero border (replicating it changes 5 %); orientation is arctan(−Gy / Gx), not
    four-quadrant (4 %), π/2 where Gx = 0, its difference is not folded (10 %); equal
    magnitudes give G = g_F; grey levels are not scaled to 0…1.
    """
    ir, vi, fused = check(ir=ir, vi=vi, fused=fused)
    weight = sum(x.once(edges)[0].sum() for x in (ir, vi))
    if weight == 0:
        raise UndefinedError("both sources are black: there is no edge to keep")

    def kept(padded: Array, *sources: Array) -> float:
        g_f, alpha_f = strength_and_orientation(padded)
        total = 0.0
        for g_s, alpha_s in (sources[:2], sources[2:]):
            with np.errstate(invalid="ignore"):  # 0 / 0 where both are flat, replaced at once
                ratio = np.minimum(g_s, g_f) / np.maximum(g_s, g_f)
            np.copyto(ratio, g_f, where=g_s == g_f)
            likeness = 1 - np.abs(alpha_s - alpha_f) / (np.pi / 2)
            q_g = 1 + np.exp(KAPPA_G * (ratio - SIGMA_G))
            q_a = 1 + np.exp(KAPPA_A * (likeness - SIGMA_A))
            total += GAMMA_G * GAMMA_A * (g_s / (q_g * q_a)).sum()
        return total

    planes = np.pad(fused.levels, 1), *ir.once(edges), *vi.once(edges)
    return float(sum(in_bands(kept, *planes)) / weight)


def edges(image: Luma) -> list[Array]:
    """Strength g and orientation α of the edges, each (H, W)."""
    return whole(strength_and_orientation, np.pad(image.levels, 1), 2)


def strength_and_orientation(padded: Array) -> tuple[Array, Array]:
    """The same of some rows."""
    g_x, g_y = sobel(padded)
    with np.errstate(divide="ignore", invalid="ignore"):  # by 0, replaced at once
        alpha = np.arctan(-g_y / g_x)
    alpha[g_x == 0] = np.pi / 2
    return np.sqrt(g_x * g_x + g_y * g_y), alpha
