"""VIF and VIFF: how much of the sources' information can be read off the fused image."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from fusionlib.errors import UndefinedError
from fusionlib.metrics.comparison import Array, Comparison, Sources, or_nan
from fusionlib.metrics.filters import bands, gaussian, log, smooth

WINDOWS = [gaussian(size, size / 5) for size in (17, 9, 5, 3)]  # of the four scales
LEAST_SIDE = 41  # the fourth scale then has 3 pixels
TINY = 1e-10
VIF_NOISE = 2.0  # variance of the eye's noise, grey levels²
VIFF_NOISE = 0.005 * 255**2
TERM = 1e-7  # added to each of its terms
VIFF_WEIGHTS = np.array([1, 0, 0.15, 1]) / 2.15


def vif(ir: ArrayLike, vi: ArrayLike, fused: ArrayLike) -> float:
    """Visual information fidelity, pixel domain, mean over both sources.

    Formula:
        (VIFp(I, F) + VIFp(V, F)) / 2, VIFp(X, F) = Σ log(1 + g² σx² / (σv² + 2)) /
        Σ log(1 + σx² / 2) over four scales, with F ≈ g X + v in every Gaussian window.

    Args:
        ir: infrared, (H, W), grey levels 0…255, both sides at least 41.
        vi: luma of the visible image, the same.
        fused: fused luma, the same.

    Returns:
        ≥ 0, typically 0.2…0.5, higher is better; 1 if all three are equal. NaN if a source is
        constant.

    Raises:
        MetricError: see `fusionlib.metrics.comparison.check_luma`; different shapes; too small.

    Source:
        H. R. Sheikh, A. C. Bovik, IEEE TIP 15(2), 2006, in the multi-scale pixel-domain form
        their authors released. doi:10.1109/TIP.2005.859378

    Traps:
        The source is the reference, the fused image the distorted one (swapped: 14 %); the mean
        over sources, not the sum that most toolboxes print (see `fusionlib.metrics.protocols`);
        noise variance 2 belongs to 0…255; windows only wholly inside.
    """
    return or_nan(vif_from_comparison, Comparison(Sources(ir, vi), fused))


def viff(ir: ArrayLike, vi: ArrayLike, fused: ArrayLike) -> float:
    """Visual information fidelity for fusion (VIFF), which some papers print as VIF.

    Formula:
        Σ_s w_s Σ num / Σ den, at every pixel the terms of the source with the smaller g; weights
        1, 0, 0.15, 1 over 2.15; noise variance 0.005 · 255².

    Args:
        ir: infrared, (H, W), grey levels 0…255, both sides at least 41.
        vi: luma of the visible image, the same.
        fused: fused luma, the same.

    Returns:
        ≥ 0, typically 0.3…1, higher is better.

    Raises:
        MetricError: see `fusionlib.metrics.comparison.check_luma`; different shapes; too small.

    Source:
        Y. Han, Y. Cai, Y. Cao, X. Xu, Information Fusion 14(2), 2013.
        doi:10.1016/j.inffus.2011.08.002

    Traps:
        On ties (g is often clamped to 0) the visible source's terms count; the other choice
        changes 0.7 %.
    """
    return viff_from_comparison(Comparison(Sources(ir, vi), fused))


def vif_from_comparison(pair: Comparison) -> float:
    """As `vif`, raising UndefinedError where that gives NaN."""
    kept = np.zeros(2)
    for _, models in _models(pair):
        for source, (g, noise, variance) in enumerate(models):
            kept[source] += log(1 + g * g * variance / (noise + VIF_NOISE)).sum()
    whole = np.array(pair.sources.once("vif whole", lambda: _whole(pair.sources)))
    if (whole == 0).any():
        raise UndefinedError("a source is constant and holds no information")
    return float((kept / whole).mean())


def viff_from_comparison(pair: Comparison) -> float:
    """As `viff`, of a comparison."""
    kept, whole = np.zeros(4), np.zeros(4)
    for scale, (ir, vi) in _models(pair):
        g, noise, variance = (np.where(ir[0] < vi[0], a, b) for a, b in zip(ir, vi, strict=True))
        terms = np.log10(1 + g * g * variance / (noise + VIFF_NOISE))
        kept[scale] += (terms + TERM).sum()
        whole[scale] += (np.log10(1 + variance / VIFF_NOISE) + TERM).sum()
    return float(VIFF_WEIGHTS @ (kept / whole))


def _models(pair: Comparison) -> list[tuple[int, list[tuple[Array, Array, Array]]]]:
    """For each band of windows: its scale and, for each source, gain g, σv² and σx²."""
    pair.require(LEAST_SIDE, "VIF")
    return pair.once("vif", lambda: list(_fit(pair)))


def _fit(pair: Comparison) -> Iterator[tuple[int, list[tuple[Array, Array, Array]]]]:
    sources, fused = _source_scales(pair.sources), pair.fused
    for scale, window in enumerate(WINDOWS):
        if scale:
            fused = _halve(fused, window)
        reach = len(window) - 1
        for top, end in bands(fused.shape[0] - reach, fused.shape[1] - reach):
            rows = np.s_[top : end + reach]
            f = fused[rows]
            mean_f = smooth(f, window)
            variance_f = smooth(f * f, window) - mean_f * mean_f
            models = []
            for x, mean, variance in (source[scale] for source in sources):
                covariance = smooth(x[rows] * f, window) - mean[top:end] * mean_f
                models.append(_model(variance[top:end], variance_f, covariance))
            yield scale, models


def _model(variance: Array, variance_f: Array, covariance: Array) -> tuple[Array, Array, Array]:
    """F = g X + v in each window; g is 0 where it would be negative or either image is flat."""
    g = np.maximum(covariance / (variance + TINY), 0)
    g *= (variance > 0) & (variance_f >= TINY)
    return g, np.maximum(variance_f - g * covariance, TINY), variance


def _whole(sources: Sources) -> list[float]:
    """VIF's denominators: what either source holds by itself."""
    return [
        sum(float(log(1 + variance / VIF_NOISE).sum()) for _, _, variance in scales)
        for scales in _source_scales(sources)
    ]


def _source_scales(sources: Sources) -> list[list[tuple[Array, Array, Array]]]:
    return sources.once("vif", lambda: [_scales(x) for x in sources.images])


def _scales(image: Array) -> list[tuple[Array, Array, Array]]:
    """The image at each scale, with local means and variances there; variances are 0 if tiny."""
    scales = []
    for scale, window in enumerate(WINDOWS):
        if scale:
            image = _halve(image, window)
        reach = len(window) - 1
        shape = image.shape[0] - reach, image.shape[1] - reach
        mean, variance = np.empty(shape), np.empty(shape)
        for top, end in bands(*shape):
            x = image[top : end + reach]
            mean[top:end] = smooth(x, window)
            variance[top:end] = smooth(x * x, window) - mean[top:end] ** 2
        variance[variance < TINY] = 0
        scales.append((image, mean, variance))
    return scales


def _halve(image: Array, window: Array) -> Array:
    """Smoothed, then every second row and column, beginning with the first."""
    reach = len(window) - 1
    height, width = image.shape[0] - reach, image.shape[1] - reach
    half = np.empty(((height + 1) // 2, (width + 1) // 2))
    for top, end in bands(height, width):
        skip = top % 2
        part = smooth(image[top : end + reach], window)[skip::2, ::2]
        start = (top + 1) // 2
        half[start : start + len(part)] = part
    return half
