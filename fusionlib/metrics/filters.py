"""What makes the metrics fast: windows as sums of shifted rows, and formulas in bands of rows.

A band stays in the processor's cache, which is faster than whole planes and takes less memory.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.linalg.blas import daxpy

Array = np.ndarray

BAND = 2**15  # pixels a band has at most, 0.25 MB in float64


def in_bands(formula: Callable, *planes: Array, reach: int = 0) -> Iterator[Any]:
    """``formula(rows of each plane)``, a band of rows after the other.

    Where a plane has more rows than others, because a window went over those, a band has as many
    more of its rows; ``reach`` is what the formula's own window takes off all planes.
    """
    height = min(len(plane) for plane in planes) - reach
    rows = max(16, BAND // planes[0].shape[1])
    for top in range(0, height, rows):
        end = min(top + rows, height)
        yield formula(*(plane[top : len(plane) - height + end] for plane in planes))


def whole(formula: Callable, plane: Array, reach: int) -> list[Array]:
    """``formula(plane)``, a tuple of planes, computed in bands."""
    bands = in_bands(formula, plane, reach=reach)
    return [np.concatenate(parts) for parts in zip(*bands, strict=True)]


def sobel(padded: Array) -> tuple[Array, Array]:
    """Sobel responses, right minus left and bottom minus top: (H + 2, W + 2) → (H, W) each."""
    down = padded[:-2] + 2 * padded[1:-1] + padded[2:]  # (H, W + 2)
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]  # (H + 2, W)
    return down[:, 2:] - down[:, :-2], across[2:] - across[:-2]


def gaussian(size: int, sigma: float) -> Array:
    """One axis of a Gaussian window: (size,), sampled at whole numbers, sum 1."""
    offsets = np.arange(size) - size // 2
    window = np.exp(-(offsets**2) / (2 * sigma**2))
    return window / window.sum()


def smooth(window: Array, image: Array) -> Array:
    """Mean in a square window, one axis of which is (n,): (H, W) → (H − n + 1, W − n + 1)."""
    height, width = image.shape
    rows, columns = height - len(window) + 1, width - len(window) + 1
    # Rows laid end to end: a step down is a step of `width`. What wraps around at the end of a
    # row lies in the columns that are cut off.
    flat = np.ascontiguousarray(image).ravel()
    for step in (width, 1):
        count = flat.size - (len(window) - 1) * step
        mean = np.empty(rows * width)
        np.multiply(flat[:count], window[0], out=mean[:count])
        for k in range(1, len(window)):  # BLAS: half the time of a product and a sum
            daxpy(flat, mean, n=count, a=window[k], offx=k * step)
        flat = mean
    return mean.reshape(rows, width)[:, :columns]


def moments(window: Array, x: Array) -> tuple[Array, Array]:
    """Mean and variance in a window, as `smooth`."""
    mu = smooth(window, x)
    return mu, smooth(window, x * x) - mu * mu
