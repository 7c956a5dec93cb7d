"""Q_CV: visible difference to the sources, where they are salient."""

import functools

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike

from fusionlib.errors import UndefinedError
from fusionlib.metrics.comparison import Array, Comparison, Sources, or_nan
from fusionlib.metrics.filters import bands, sobel

TILE = 16
SALIENCY_EXPONENT = 5  # α


def qcv(ir: ArrayLike, vi: ArrayLike, fused: ArrayLike) -> float:
    """Chen–Varshney metric Q_CV.

    Formula:
        Σ (L_I M_I + L_V M_V) / Σ (L_I + L_V) over 16 × 16 tiles, with L_S = Σ |Sobel|⁵ and
        M_S = Σ E_S² / 256, E_S the difference S − F seen through the contrast sensitivity
        θ(r) = 2.6 (0.0192 + 0.144 r) exp(−(0.144 r)^1.1). Each image is first stretched to its
        own range and rounded.

    Args:
        ir: infrared, (H, W), grey levels 0…255.
        vi: luma of the visible image, the same.
        fused: fused luma, the same.

    Returns:
        ≥ 0, typically 100…1500, squared grey levels; **lower** is better. NaN if an image is
        constant (but not black), since it cannot be stretched, or both sources are black.

    Raises:
        MetricError: see `fusionlib.metrics.comparison.check_luma`; different shapes.

    Source:
        H. Chen, P. K. Varshney, Information Fusion 8(2), 2007. doi:10.1016/j.inffus.2005.10.001

    Traps:
        Without the stretch it differs by 10 % (median); tiles are sums over the same grid, also
        the partial ones at the border; the filter's frequencies are signed integers, r is the
        root of their squares / 4, and its constant term is not zero.
    """
    return or_nan(from_comparison, Comparison(Sources(ir, vi), fused))


def from_comparison(pair: Comparison) -> float:
    """As `qcv`, raising UndefinedError where that gives NaN."""
    names = ("the infrared image", "the visible image")
    sources = pair.sources.once(
        "qcv", lambda: [_salient(x, n) for x, n in zip(pair.sources.images, names, strict=True)]
    )
    weight = sum(saliency.sum() for saliency, _ in sources)
    if weight == 0:
        raise UndefinedError("both sources are black: no tile is salient")
    seen = _seen(_stretch(pair.fused, "the fused image"))
    errors = (
        float((saliency * _tiles((source - seen) ** 2)).sum()) for saliency, source in sources
    )
    return sum(errors) / TILE**2 / weight


def _salient(image: Array, name: str) -> tuple[Array, Array]:
    """Saliency of each tile, and the stretched image through the eye's filter."""
    stretched = _stretch(image, name)
    padded, strength = np.pad(stretched, 1), np.empty_like(stretched)
    for top, end in bands(*image.shape):
        g_x, g_y = sobel(padded[top : end + 2])
        squared = g_x * g_x + g_y * g_y
        strength[top:end] = squared * squared * np.sqrt(squared)  # e^5
    return _tiles(strength), _seen(stretched)


def _stretch(image: Array, name: str) -> Array:
    """To 0…255 by the image's own range, rounded half up; black stays black."""
    low, high = image.min(), image.max()
    if high == 0:
        return image
    if high == low:
        raise UndefinedError(f"{name} is constant and cannot be stretched")
    levels = np.floor(255 * (np.arange(256) - low) / (high - low) + 0.5)  # of each grey level
    return levels[image.astype(np.intp)]


def _tiles(image: Array) -> Array:
    """Sum over each 16 × 16 tile, (⌈H/16⌉, ⌈W/16⌉)."""
    rows = np.add.reduceat(image, np.arange(0, image.shape[0], TILE), axis=0)
    return np.add.reduceat(rows, np.arange(0, image.shape[1], TILE), axis=1)


def _seen(image: Array) -> Array:
    """The image filtered by the contrast sensitivity, circularly.

    Linear, so the difference of two filtered images is the filtered difference.
    """
    spectrum = scipy.fft.rfft2(image)
    spectrum *= _sensitivity(*image.shape)
    return scipy.fft.irfft2(spectrum, image.shape, overwrite_x=True)


@functools.lru_cache(maxsize=2)
def _sensitivity(height: int, width: int) -> Array:
    """θ(r) on the half plane of a real transform, (H, W // 2 + 1)."""
    p, q = np.arange(height // 2 + 1)[:, None], np.arange(width // 2 + 1)
    r = np.sqrt(p**2 + q**2) / 4
    theta = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))
    signed = np.rint(np.abs(np.fft.fftfreq(height, 1 / height))).astype(int)
    return theta[signed]  # θ depends on |p| alone
