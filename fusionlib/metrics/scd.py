"""SCD: what either source added to the fused image."""

import numpy as np
from numpy.typing import ArrayLike

from fusionlib.errors import UndefinedError
from fusionlib.metrics.comparison import Array, Comparison, Sources, or_nan


def scd(ir: ArrayLike, vi: ArrayLike, fused: ArrayLike) -> float:
    """Sum of the correlations of differences.

    Formula:
        r(F − V, I) + r(F − I, V), r the Pearson correlation over all pixels.

    Args:
        ir: infrared, (H, W), grey levels 0…255.
        vi: luma of the visible image, the same.
        fused: fused luma, the same.

    Returns:
        −2…2, typically 0.5…1.9, higher is better; NaN if a source or a difference is constant.

    Raises:
        MetricError: see `fusionlib.metrics.comparison.check_luma`; different shapes.

    Source:
        V. Aslantas, E. Bendes, AEU Int. J. Electron. Commun. 69(12), 2015.
        doi:10.1016/j.aeue.2015.09.004

    Traps:
        F − V goes with I, not F − I with I; differences are signed (unsigned 8-bit ones wrap
        around) and neither clipped nor made absolute; the two terms are added, not averaged.
    """
    return or_nan(from_comparison, Comparison(Sources(ir, vi), fused))


def from_comparison(pair: Comparison) -> float:
    """As `scd`, raising UndefinedError where that gives NaN."""
    ir, vi = pair.sources.once("scd", lambda: [x - x.mean() for x in pair.sources.images])
    if not ir.any() or not vi.any():
        raise UndefinedError("a source is constant and correlates with nothing")
    fused = pair.fused - pair.fused.mean()
    return _correlation(fused - vi, ir) + _correlation(fused - ir, vi)


def _correlation(difference: Array, source: Array) -> float:
    """Pearson's r of two images of mean zero."""
    scale = np.vdot(difference, difference) * np.vdot(source, source)
    # means leave rounding errors: a difference below a billionth of a grey level is constant
    if np.abs(difference).max() < 1e-9:
        raise UndefinedError("the fused image differs from a source by a constant only")
    return float(np.vdot(difference, source) / np.sqrt(scale))
