"""What the metrics work on: two sources and a fused image, checked, with what they share cached."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusionlib.errors import MetricError, TooSmallError, UndefinedError

Array = np.ndarray


def check_luma(image: ArrayLike, name: str) -> Array:
    """An image as float64 grey levels, if it is 8-bit luma.

    Args:
        image: (H, W), integers (of any type, also float) from 0 to 255.
        name: what an error calls it.

    Returns:
        (H, W), float64, not scaled.

    Raises:
        MetricError: not two-dimensional, empty, outside 0…255, or not whole numbers.
    """
    array = np.asarray(image)
    if array.ndim != 2 or array.size == 0:
        raise MetricError(
            f"{name}: shape {array.shape}; expected luma (H, W), which "
            f"fusionlib.images.luma8 makes of RGB in [0, 1]"
        )
    if array.dtype == np.uint8:
        return array.astype(np.float64)
    if array.dtype.kind not in "biuf":
        raise MetricError(f"{name}: {array.dtype}; expected grey levels 0…255")
    levels = array.astype(np.float64)
    if not (levels.min() >= 0 and levels.max() <= 255):  # False for NaN
        raise MetricError(f"{name}: values outside 0…255, or not finite")
    if array.dtype.kind == "f" and (levels != np.rint(levels)).any():
        raise MetricError(
            f"{name}: fractions of grey levels; metrics are defined on what an 8-bit file holds "
            f"(0…255, rounded), not on [0, 1] or on the network's output"
        )
    return levels


class _Remembering:
    """Computes a thing once and keeps it under a key."""

    def __init__(self):
        self._kept: dict[str, Any] = {}

    def once(self, key: str, compute: Callable[[], Any]) -> Any:
        """The value of ``compute()``, from the first call on."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]


class Sources(_Remembering):
    """An infrared and a visible image, and what any number of fused ones share of them.

    Args:
        ir: infrared, (H, W), grey levels 0…255.
        vi: luma of the visible image, the same.

    Attributes:
        images: both as float64, infrared first.

    Raises:
        MetricError: not 8-bit luma, or of different shapes.
    """

    def __init__(self, ir: ArrayLike, vi: ArrayLike):
        super().__init__()
        self.images = check_luma(ir, "ir"), check_luma(vi, "vi")
        if self.images[0].shape != self.images[1].shape:
            raise MetricError(f"ir {self.images[0].shape} and vi {self.images[1].shape} differ")


class Comparison(_Remembering):
    """A fused image beside its sources, and what several metrics share of it.

    Args:
        sources: the two.
        fused: fused luma, (H, W), grey levels 0…255.

    Raises:
        MetricError: not 8-bit luma, or of another shape.
    """

    def __init__(self, sources: Sources, fused: ArrayLike):
        super().__init__()
        self.sources, self.fused = sources, check_luma(fused, "fused")
        expected = sources.images[0].shape
        if self.fused.shape != expected:
            raise MetricError(f"fused {self.fused.shape}, but its sources are {expected}")

    def require(self, least: int, metric: str) -> None:
        """Raise TooSmallError if a side is shorter than ``least`` pixels."""
        height, width = self.fused.shape
        if min(height, width) < least:
            raise TooSmallError(f"{width}×{height} is too small: {metric} needs {least}×{least}")


def or_nan(compute: Callable[[Comparison], float], pair: Comparison) -> float:
    """The metric's value, NaN where it is undefined."""
    try:
        return compute(pair)
    except UndefinedError:
        return float("nan")
