"""SSIM with both sources, added."""

import numpy as np
from numpy.typing import ArrayLike

from fusionlib.metrics.comparison import Array, Comparison, Sources
from fusionlib.metrics.filters import bands, gaussian, smooth

WINDOW = gaussian(11, 1.5)
LEAST_SIDE = len(WINDOW)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(ir: ArrayLike, vi: ArrayLike, fused: ArrayLike) -> float:
    """Structural similarity of the fused image with either source, summed.

    Formula:
        SSIM(I, F) + SSIM(V, F), each the mean over all window positions of
        (2 μx μy + C1)(2 σxy + C2) / ((μx² + μy² + C1)(σx² + σy² + C2)), 11 × 11 Gaussian window,
        σ = 1.5, wholly inside the image.

    Args:
        ir: infrared, (H, W), grey levels 0…255, both sides at least 11.
        vi: luma of the visible image, the same.
        fused: fused luma, the same.

    Returns:
        −2…2, higher is better; 2 if all three are equal.

    Raises:
        MetricError: see `fusionlib.metrics.comparison.check_luma`; different shapes; too small.

    Source:
        Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, IEEE TIP 13(4), 2004.
        doi:10.1109/TIP.2003.819861

    Traps:
        The sum, not the mean, of both; data range 255 (a range of 1 or 2 on 8-bit data gives
        values near 1); Gaussian, not a uniform 7 × 7 window; no padded border, no downsampling.
    """
    return from_comparison(Comparison(Sources(ir, vi), fused))


def from_comparison(pair: Comparison) -> float:
    """As `ssim`, of a comparison."""
    pair.require(LEAST_SIDE, "SSIM")
    sources = pair.sources.once("ssim", lambda: [_moments(x) for x in pair.sources.images])
    height, width = (side - LEAST_SIDE + 1 for side in pair.fused.shape)
    total = 0.0
    for top, end in bands(height, width):
        rows = np.s_[top : end + LEAST_SIDE - 1]
        f = pair.fused[rows]
        mean_f = smooth(f, WINDOW)
        squared_f = mean_f * mean_f
        variance_f = smooth(f * f, WINDOW) - squared_f
        for x, (mean, variance) in zip(pair.sources.images, sources, strict=True):
            m, v = mean[top:end], variance[top:end]
            product = m * mean_f
            covariance = smooth(x[rows] * f, WINDOW) - product
            alike = (2 * product + C1) * (2 * covariance + C2)
            alike /= (m * m + squared_f + C1) * (v + variance_f + C2)
            total += float(alike.sum())
    return total / (height * width)


def _moments(image: Array) -> tuple[Array, Array]:
    """Local mean and variance, each (H − 10, W − 10)."""
    height, width = (side - LEAST_SIDE + 1 for side in image.shape)
    mean, variance = np.empty((height, width)), np.empty((height, width))
    for top, end in bands(height, width):
        x = image[top : end + LEAST_SIDE - 1]
        mean[top:end] = smooth(x, WINDOW)
        variance[top:end] = smooth(x * x, WINDOW) - mean[top:end] ** 2
    return mean, variance
