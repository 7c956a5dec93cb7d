"""Filters in float64 that several metrics share: Sobel and separable windows.

Everything is done in bands of rows that stay in the processor's cache: several times faster than
whole planes, and little memory.
"""

from collections.abc import Iterator

import numpy as np

Array = np.ndarray

BAND = 2**16  # pixels a band has at most, 0.5 MB in float64


def bands(height: int, width: int) -> Iterator[tuple[int, int]]:
    """First and last + 1 row of each band of an image, or of a filter's output."""
    rows = max(16, BAND // width)
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def sobel(padded: Array) -> tuple[Array, Array]:
    """Sobel responses, not scaled.

    Args:
        padded: (H + 2, W + 2); what stands in the outermost pixels decides about the border.

    Returns:
        Horizontal (right minus left) and vertical (bottom minus top), each (H, W).
    """
    down = padded[:-2] + 2 * padded[1:-1] + padded[2:]  # (H, W + 2)
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]  # (H + 2, W)
    return down[:, 2:] - down[:, :-2], across[2:] - across[:-2]


def gaussian(size: int, sigma: float) -> Array:
    """One axis of a Gaussian window: (size,), sampled at whole numbers, sum 1; size is odd."""
    offsets = np.arange(size) - size // 2
    window = np.exp(-(offsets**2) / (2 * sigma**2))
    return window / window.sum()


def smooth(image: Array, window: Array) -> Array:
    """Weighted sums in a square window, wherever it lies wholly inside the image.

    Args:
        image: (H, W).
        window: one axis of it, (n,), symmetric, n odd.

    Returns:
        (H − n + 1, W − n + 1).
    """
    columns = _smooth_rows(image, window)
    return _smooth_rows(columns.T, window).T


def _smooth_rows(image: Array, window: Array) -> Array:
    """Down the first axis: pairs of rows that have one weight are added first."""
    half = len(window) // 2
    height = image.shape[0] - 2 * half
    out = image[half : half + height] * window[half]
    pair = np.empty_like(out)
    for k in range(half):
        np.add(image[k : k + height], image[2 * half - k : 2 * half - k + height], out=pair)
        pair *= window[k]
        out += pair
    return out
