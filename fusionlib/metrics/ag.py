"""Q_AG: how steep the fused image is, whatever its sources."""

import numpy as np
from numpy.typing import ArrayLike

from fusionlib.metrics.filters import in_bands
from fusionlib.metrics.luma import Array, check


def ag(fused: ArrayLike) -> float:
    """Average gradient: mean local slope, a proxy for texture (and for noise).

    Σ √((dx² + dy²) / 2) / ((H − 1)(W − 1)) over all H · W pixels, central differences inside,
    one-sided ones at the border.

    Argument: luma (H, W), grey levels 0…255, both sides at least 2; else MetricError.
    Returns: grey levels per pixel, ≥ 0, typically 2…10; higher is better.
    Source: G. Cui, H. Feng, Z. Xu, Q. Li, Y. Chen, Optics Communications 341, 2015,
    doi:10.1016/j.optcom.2014.12.032; the paper cites Zhang X. et al., 2020.
    Traps: dividing by H · W (0.4 to 0.8 % lower); forward differences (8 to 46 % higher); Sobel.
    """
    (f,) = check(2, fused=fused)
    height, width = f.levels.shape

    def slopes(x: Array) -> float:
        d_x, d_y = (x[1:-1, 2:] - x[1:-1, :-2]) / 2, (x[2:, 1:-1] - x[:-2, 1:-1]) / 2
        return np.sqrt((d_x * d_x + d_y * d_y) / 2).sum()

    # mirrored at the border, where central differences then are one-sided ones
    padded = np.pad(f.levels, 1, mode="reflect", reflect_type="odd")
    return float(sum(in_bands(slopes, padded, reach=2)) / ((height - 1) * (width - 1)))
