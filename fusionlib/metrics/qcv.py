"""Q_CV: visible difference to the sources, where they are salient."""

import functools

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike

from fusionlib.errors import UndefinedError
from fusionlib.metrics.filters import sobel, whole
from fusionlib.metrics.luma import Array, Luma, check, nan_where_undefined

TILE = 16


@nan_where_undefined
def qcv(ir: ArrayLike, vi: ArrayLike, fused: ArrayLike) -> float:
    """Chen–Varshney metric Q_CV.

    Σ (L_I M_I + L_V M_V) / Σ (L_I + L_V) over 16 × 16 tiles, with L_S = Σ |Sobel|⁵ and
    M_S = Σ E_S² / 256, E_S the difference S − F seen through the contrast sensitivity
    θ(r) = 2.6 (0.0192 + 0.144 r) exp(−(0.144 r)^1.1). Each image is first stretched to its
    own range and rounded.

    Arguments: luma (H, W) of one shape, grey levels 0…255; else MetricError.
    Returns: ≥ 0, typically 100…1500, squared grey levels; **lower** is better. NaN if an image is
    constant (but not black), since it cannot be stretched, or both sources are black.
    Source: H. Chen, P. K. Varshney, Information Fusion 8(2), 2007,
    doi:10.1016/j.inffus.2005.10.001; the paper cites Liu Y. et al., 2024, too.
    Traps: without the stretch it differs by 10 % (median); tiles are sums over the same grid, also
    the partial ones at the border; the filter's frequencies are signed integers, r is the
    root of their squares / 4, and its constant term is not zero.
    """
    ir, vi, fused = check(ir=ir, vi=vi, fused=fused)
    weight = sum(x.once(salient)[0].sum() for x in (ir, vi))
    if weight == 0:
        raise UndefinedError("both sources are black: no tile is salient")
    total, seen_f = 0.0, seen(stretch(fused))
    for saliency, seen_x in (ir.once(salient), vi.once(salient)):
        error = seen_x - seen_f  # the filter is linear
        total += (saliency * tiles(error * error) / TILE**2).sum()
    return float(total / weight)


def salient(image: Luma) -> tuple[Array, Array]:
    """L of each tile, (⌈H/16⌉, ⌈W/16⌉), and the stretched image through the eye's filter."""
    stretched = stretch(image)

    def strength(padded: Array) -> tuple[Array]:
        g_x, g_y = sobel(padded)
        squared = g_x * g_x + g_y * g_y
        return (squared * squared * np.sqrt(squared),)

    return tiles(*whole(strength, np.pad(stretched, 1), 2)), seen(stretched)


def seen(stretched: Array) -> Array:
    """The image through the eye's filter, circularly, (H, W)."""
    spectrum = scipy.fft.rfft2(stretched)
    spectrum *= sensitivity(*stretched.shape)
    return scipy.fft.irfft2(spectrum, stretched.shape, overwrite_x=True)


@functools.lru_cache(maxsize=2)
def sensitivity(height: int, width: int) -> Array:
    """θ(r) on the half plane of a real transform, (H, W // 2 + 1)."""
    p, q = np.fft.fftfreq(height, 1 / height), np.arange(width // 2 + 1)
    r = np.sqrt(p[:, None] ** 2 + q**2) / 4
    return 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))


def stretch(image: Luma) -> Array:
    """To 0…255 by the image's own range, rounded half up; black stays black."""
    low, high = image.levels.min(), image.levels.max()
    if high == 0:
        return image.levels
    if high == low:
        raise UndefinedError(f"the {image.name} image is constant and cannot be stretched")
    levels = np.floor(255 * (np.arange(256) - low) / (high - low) + 0.5)  # of each grey level
    return levels[image.levels.astype(np.intp)]


def tiles(image: Array) -> Array:
    """Sum over each 16 × 16 tile, (⌈H/16⌉, ⌈W/16⌉)."""
    rows = np.add.reduceat(image, np.arange(0, image.shape[0], TILE), axis=0)
    return np.add.reduceat(rows, np.arange(0, image.shape[1], TILE), axis=1)
