"""Q_SSIM: structural similarity with both sources, added."""

from functools import partial

from numpy.typing import ArrayLike

from fusionlib.metrics.filters import gaussian, in_bands, moments, smooth, whole
from fusionlib.metrics.luma import Array, Luma, check

WINDOW = gaussian(11, 1.5)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(ir: ArrayLike, vi: ArrayLike, fused: ArrayLike) -> float:
    """Structural similarity of the fused image with either source, summed.

    SSIM(I, F) + SSIM(V, F), each the mean over all window positions of
    (2 μx μf + C1)(2 σxf + C2) / ((μx² + μf² + C1)(σx² + σf² + C2)), 11 × 11 Gaussian window,
    σ = 1.5, wholly inside the image.

    Arguments: luma (H, W) of one shape, 0…255, both sides at least 11; else MetricError.
    Returns: −2…2, higher is better; 2 if all three are equal.
    Source: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, IEEE TIP 13(4), 2004,
    doi:10.1109/TIP.2003.819861.
    Traps: the sum, not the mean, of both; data range 255 (a range of 1 or 2 on 8-bit data gives
    values near 1); Gaussian, not a uniform 7 × 7 window; no padded border, no downsampling.
    """
    ir, vi, fused = check(len(WINDOW), ir=ir, vi=vi, fused=fused)

    def similarity(f: Array, *sources: Array) -> float:
        mu_f, var_f = moments(WINDOW, f)
        total = 0.0
        for x, mu_x, var_x in (sources[:3], sources[3:]):
            mu_xf = mu_x * mu_f
            cov_xf = smooth(WINDOW, x * f) - mu_xf
            top = (2 * mu_xf + C1) * (2 * cov_xf + C2)
            total += (top / ((mu_x * mu_x + mu_f * mu_f + C1) * (var_x + var_f + C2))).sum()
        return total

    i, v = ((x.levels, *x.once(source_moments)) for x in (ir, vi))
    return float(sum(in_bands(similarity, fused.levels, *i, *v)) / i[1].size)


def source_moments(image: Luma) -> list[Array]:
    """Local mean and variance, each (H − 10, W − 10)."""
    return whole(partial(moments, WINDOW), image.levels, len(WINDOW) - 1)
