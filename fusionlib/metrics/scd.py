"""Q_SCD: what either source added to the fused image."""

import numpy as np
from numpy.typing import ArrayLike

from fusionlib.errors import UndefinedError
from fusionlib.metrics.luma import Array, Luma, check, nan_where_undefined


@nan_where_undefined
def scd(ir: ArrayLike, vi: ArrayLike, fused: ArrayLike) -> float:
    """Sum of the correlations of differences.

    r(F − V, I) + r(F − I, V), r the Pearson correlation over all pixels.

    Arguments: luma (H, W) of one shape, grey levels 0…255; else MetricError.
    Returns: −2…2, typically 0.5…1.9, higher is better; NaN if a source or a difference is constant.
    Source: V. Aslantas, E. Bendes, AEU Int. J. Electron. Commun. 69(12), 2015,
    doi:10.1016/j.aeue.2015.09.004.
    Traps: F − V goes with I, not F − I with I; differences are signed (unsigned 8-bit ones wrap
    around) and neither clipped nor made absolute; the two terms are added, not averaged.
    """
    ir, vi, fused = check(ir=ir, vi=vi, fused=fused)
    i, v, f = ir.once(centred), vi.once(centred), centred(fused)
    return correlation(f - v, i) + correlation(f - i, v)


def centred(image: Luma) -> Array:
    """The image less its mean."""
    return image.levels - image.levels.mean()


def correlation(difference: Array, source: Array) -> float:
    """Pearson's r of two images of mean zero."""
    if not source.any():
        raise UndefinedError("a source is constant and correlates with nothing")
    # means leave rounding errors: a difference below a billionth of a grey level is constant
    if np.abs(difference).max() < 1e-9:
        raise UndefinedError("the fused image differs from a source by a constant only")
    scale = np.vdot(difference, difference) * np.vdot(source, source)
    return float(np.vdot(difference, source) / np.sqrt(scale))
