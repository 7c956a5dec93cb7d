"""What the metrics work on: 8-bit luma images, checked, that remember what was computed of them."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusionlib.errors import MetricError, TooSmallError, UndefinedError

Array = np.ndarray


class Luma:
    """An 8-bit image, and what several metrics or several fused images share of it.

    Attributes:
        levels: (H, W), float64, grey levels 0…255.
        name: what an error calls it.
    """

    def __init__(self, image: ArrayLike, name: str):
        array = np.asarray(image)
        if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "iuf":
            raise MetricError(
                f"{name}: {array.dtype} of shape {array.shape}; expected grey levels (H, W), which "
                f"fusionlib.images.luma8 makes of RGB in [0, 1]"
            )
        if not (array.min() >= 0 and array.max() <= 255):  # False for NaN
            raise MetricError(f"{name}: values outside 0…255, or not finite")
        if array.dtype.kind == "f" and (array != np.rint(array)).any():
            raise MetricError(
                f"{name}: fractions of grey levels; metrics are defined on what an 8-bit file "
                f"holds (0…255, rounded), not on [0, 1] or on the network's output"
            )
        self.levels, self.name, self._known = array.astype(np.float64), name, {}

    def once(self, compute: Callable, *others: "Luma") -> Any:
        """``compute(self, *others)``, computed at the first call only."""
        if (compute, *others) not in self._known:
            self._known[compute, *others] = compute(self, *others)
        return self._known[compute, *others]


class Sources:
    """An infrared and a visible image: keep the object for all fused images of the two.

    Args:
        ir, vi: luma (H, W) of one shape, grey levels 0…255; else MetricError.
    """

    def __init__(self, ir: ArrayLike, vi: ArrayLike):
        self.ir, self.vi = check(ir=ir, vi=vi)


def check(least: int = 1, **images: ArrayLike | Luma) -> list[Luma]:
    """The named images as Luma; MetricError unless of one shape, each side at least ``least``."""
    lumas = [x if isinstance(x, Luma) else Luma(x, name) for name, x in images.items()]
    first, height, width = lumas[0].name, *lumas[0].levels.shape
    for luma in lumas:
        if luma.levels.shape != (height, width):
            raise MetricError(f"{luma.name} {luma.levels.shape}, but {first} {height, width}")
    if min(height, width) < least:
        raise TooSmallError(f"{width}×{height} is too small: the metric needs {least}×{least}")
    return lumas


def nan_where_undefined(metric: Callable[..., float]) -> Callable[..., float]:
    """The metric, with NaN instead of UndefinedError; ``__wrapped__`` is the one that raises."""

    @functools.wraps(metric)
    def or_nan(*images: ArrayLike, **named: ArrayLike) -> float:
        try:
            return metric(*images, **named)
        except UndefinedError:
            return float("nan")

    return or_nan
