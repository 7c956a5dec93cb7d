"""Q_VIF and VIFF: how much of the sources' information can be read off the fused image."""

from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from fusionlib.errors import UndefinedError
from fusionlib.metrics.filters import gaussian, in_bands, moments, smooth, whole
from fusionlib.metrics.luma import Array, Luma, check, nan_where_undefined

WINDOWS = [gaussian(size, size / 5) for size in (17, 9, 5, 3)]  # of the four scales
LEAST_SIDE = 41  # the fourth scale then has 3 pixels
TINY = 1e-10
VIF_NOISE, VIFF_NOISE = 2.0, 0.005 * 255**2  # variance of the eye's noise, grey levels²
VIFF_TERM = 1e-7  # added to each of its terms
VIFF_WEIGHTS = np.array([1, 0, 0.15, 1]) / 2.15


@nan_where_undefined
def vif(ir: ArrayLike, vi: ArrayLike, fused: ArrayLike) -> float:
    """Visual information fidelity in the pixel domain (VIFp), mean over both sources.

    (VIFp(I, F) + VIFp(V, F)) / 2, VIFp(X, F) = Σ log(1 + g² σx² / (σv² + 2)) /
    Σ log(1 + σx² / 2) over four scales, with F ≈ g X + v in every Gaussian window.

    Arguments: luma (H, W) of one shape, 0…255, both sides at least 41; else MetricError.
    Returns: ≥ 0, typically 0.2…0.5, higher is better; 1 if all three are equal. NaN if a source
    is constant.
    Source: H. R. Sheikh, A. C. Bovik, IEEE TIP 15(2), 2006, in the multi-scale pixel-domain form
    their authors released, doi:10.1109/TIP.2005.859378. The paper cites Ma et al., 2019a,
    presumably the survey in Information Fusion 45, which describes VIFF under the name VIF; but
    its reported values fit VIFp better. Of DATFuse and LRRNet on the five datasets, measured /
    reported is 0.71…1.13 with VIFp and 0.57…1.53 with VIFF.
    Traps: the source is the reference, the fused image the distorted one (swapped: 14 %); the mean
    over sources, not the sum that most toolboxes print (see `fusionlib.metrics.protocols`);
    noise variance 2 belongs to 0…255; windows only wholly inside.
    """
    ir, vi, fused = check(LEAST_SIDE, ir=ir, vi=vi, fused=fused)
    kept = np.zeros(2)
    for _, models in fused.once(fit, ir, vi):
        for source, (g, var_v, var_x) in enumerate(models):
            kept[source] += np.log(1 + g * g * var_x / (var_v + VIF_NOISE)).sum()
    held = np.array([x.once(information) for x in (ir, vi)])
    if (held == 0).any():
        raise UndefinedError("a source is constant and holds no information")
    return float((kept / held).mean())


def viff(ir: ArrayLike, vi: ArrayLike, fused: ArrayLike) -> float:
    """Visual information fidelity for fusion (VIFF), which some papers print as VIF.

    Σ_s w_s Σ num / Σ den, at every pixel the terms of the source with the smaller g; weights
    1, 0, 0.15, 1 over 2.15; noise variance 0.005 · 255².

    Arguments: as of `vif`.
    Returns: ≥ 0, typically 0.3…1, higher is better.
    Source: Y. Han, Y. Cai, Y. Cao, X. Xu, Information Fusion 14(2), 2013,
    doi:10.1016/j.inffus.2011.08.002.
    Traps: on ties (g is often clamped to 0) the visible source's terms count; the other choice
    changes 0.7 %.
    """
    ir, vi, fused = check(LEAST_SIDE, ir=ir, vi=vi, fused=fused)
    kept, held = np.zeros(4), np.zeros(4)
    for scale, (of_ir, of_vi) in fused.once(fit, ir, vi):
        smaller = of_ir[0] < of_vi[0]
        g, var_v, var_x = (np.where(smaller, *both) for both in zip(of_ir, of_vi, strict=True))
        kept[scale] += (np.log10(1 + g * g * var_x / (var_v + VIFF_NOISE)) + VIFF_TERM).sum()
        held[scale] += (np.log10(1 + var_x / VIFF_NOISE) + VIFF_TERM).sum()
    return float(VIFF_WEIGHTS @ (kept / held))


def fit(fused: Luma, *sources: Luma) -> list[tuple[int, list[tuple[Array, Array, Array]]]]:
    """F ≈ g X + v in every window: scale and, of both sources, g, σv², σx²; band after band."""

    def models(f: Array, *planes: Array) -> list[tuple[Array, Array, Array]]:
        mu_f, var_f = moments(window, f)
        found = []
        for x, mu_x, var_x in (planes[:3], planes[3:]):
            cov = smooth(window, x * f) - mu_x * mu_f
            g = np.maximum(cov / (var_x + TINY), 0)
            g *= (var_x > 0) & (var_f >= TINY)  # 0 where either image is flat
            found.append((g, np.maximum(var_f - g * cov, TINY), var_x))
        return found

    fits, levels = [], fused.levels
    for scale, window in enumerate(WINDOWS):
        levels = halve(levels, window) if scale else levels
        planes = [plane for x in sources for plane in x.once(scales)[scale]]
        fits += [(scale, both) for both in in_bands(models, levels, *planes)]
    return fits


def scales(image: Luma) -> list[tuple[Array, Array, Array]]:
    """The image at each scale, with local means and variances there; variances are 0 if tiny."""
    found, x = [], image.levels
    for scale, window in enumerate(WINDOWS):
        x = halve(x, window) if scale else x
        mu, var = whole(partial(moments, window), x, len(window) - 1)
        found.append((x, mu, np.where(var < TINY, 0, var)))
    return found


def information(source: Luma) -> float:
    """VIF's denominator: what a source holds by itself."""
    return sum(float(np.log(1 + var / VIF_NOISE).sum()) for _, _, var in source.once(scales))


def halve(image: Array, window: Array) -> Array:
    """Smoothed, then every second row and column, beginning with the first."""
    (smoothed,) = whole(lambda x: (smooth(window, x),), image, len(window) - 1)
    return smoothed[::2, ::2]
