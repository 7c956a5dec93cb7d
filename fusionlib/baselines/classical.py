"""Three methods without anything learned: average, maximum, Laplacian pyramid.

They work on the unrounded luma; colour comes from the visible image.
"""

import numpy as np
from skimage.transform import pyramid_expand, pyramid_reduce

from fusionlib.baselines.method import Array, ArrayMethod
from fusionlib.images import luma

LEVELS = 4  # bands of the pyramid, fewer where the image is too small
LEAST = 4  # a layer with a side below this is not divided further


def average(ir: Array, vi: Array) -> Array:
    """(H, W), (H, W, 3) → (H, W): mean of infrared and luma, in [0, 1]."""
    return (ir + luma(vi)) / 2


def maximum(ir: Array, vi: Array) -> Array:
    """(H, W), (H, W, 3) → (H, W): the brighter of infrared and luma, in [0, 1]."""
    return np.maximum(ir, luma(vi))


def decompose(image: Array) -> tuple[list[Array], Array]:
    """Laplacian pyramid: what each halving of the size loses, and what is left.

    Args:
        image: (H, W), float.

    Returns:
        Bands, finest first, (H, W), (⌈H/2⌉, ⌈W/2⌉), …; and the coarsest layer, half of the last.
    """
    bands = []
    while len(bands) < LEVELS and min(image.shape) >= LEAST:
        smaller = pyramid_reduce(image, preserve_range=True)
        bands.append(image - enlarge(smaller, image.shape))
        image = smaller
    return bands, image


def compose(bands: list[Array], coarsest: Array) -> Array:
    """Inverse of `decompose`."""
    image = coarsest
    for band in reversed(bands):
        image = band + enlarge(image, band.shape)
    return image


def enlarge(image: Array, shape: tuple[int, int]) -> Array:
    """Twice as large, cut to an odd size where the pyramid had rounded up."""
    return pyramid_expand(image, preserve_range=True)[: shape[0], : shape[1]]


def laplacian(ir: Array, vi: Array) -> Array:
    """(H, W), (H, W, 3) → (H, W): of each band the stronger detail, of the rest the mean.

    P. J. Burt, E. H. Adelson, The Laplacian pyramid as a compact image code, IEEE Trans.
    Communications 31(4), 1983, doi:10.1109/TCOM.1983.1095851.
    """
    bands_ir, rest_ir = decompose(ir.astype(np.float64))
    bands_vi, rest_vi = decompose(luma(vi).astype(np.float64))
    bands = [
        np.where(np.abs(a) >= np.abs(b), a, b) for a, b in zip(bands_ir, bands_vi, strict=True)
    ]
    return np.clip(compose(bands, (rest_ir + rest_vi) / 2), 0, 1)


METHODS = [
    ArrayMethod(name=rule.__name__, title=title, group="classical", rule=rule)
    for rule, title in (
        (average, "Average"),
        (maximum, "Maximum"),
        (laplacian, "Laplacian pyramid"),
    )
]
