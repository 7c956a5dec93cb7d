"""False colour: which palette an infrared image was coloured with, and the heat it stood for.

Cameras and plots colour heat by a table of 256 colours. In tables that brighten with heat (iron,
inferno, hot) the luma still orders heat; in rainbows (jet, turbo) it does not: the hottest pixels
are darker than the lukewarm ones, so that people would turn black.
"""

import csv
import functools
import warnings
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from fusionlib.errors import ImageError
from fusionlib.files import DATA

Array = np.ndarray

LIST = DATA / "palettes.csv"  # name, source, 256 colours from cold to hot
# share of the squared colour of an image between it and its palette: JPEG of quality 75 with half
# of the colour's resolution leaves up to 0.022; of 200 photos the nearest to a palette has 0.3
UNEXPLAINED = 0.03
TOLERANCE = 30  # levels beyond which a pixel says nothing: edges in JPEG files, a scale, a logo


class PaletteWarning(UserWarning):
    """Which palette an image was taken for; nothing in it says which end is hot."""


def recognise(path: Path | str, image: Array) -> str | None:
    """The palette that an image (H, W, 3) in [0, 1] was coloured with; None if none fits.

    Raises:
        ImageError: several fit and disagree on what is hot, as jet and hot do from red to yellow.
    """
    pixels = _sample(image)
    colour = np.mean(np.ptp(pixels, axis=1) ** 2)
    cost, entries = {}, {}
    for name, tree in _trees().items():
        far, entries[name] = tree.query(pixels)
        if np.mean(far**2) <= UNEXPLAINED * colour:
            cost[name] = np.mean(far**2)
    best = min(cost, key=cost.get, default=None)
    for name in cost:
        (variance, covariance), (_, other) = np.cov(entries[best], entries[name], bias=True)
        is_opposite = covariance < 0.8 * np.sqrt(variance * other)
        if is_opposite and cost[name] <= 2 * cost[best] + 4:
            raise ImageError(
                f"{path}: pseudo-colour that fits the palettes {best!r} and {name!r}, which "
                f"disagree on what is hot; export the image in grey from the camera's program"
            )
    return best


def heat(path: Path | str, image: Array, name: str) -> Array:
    """Turn false colour back into heat: the nearest colour of a palette.

    Pixels that no colour of it is near, at edges in JPEG files for example, get the heat of the
    nearest pixel that has one.

    Args:
        path: for messages.
        image: (H, W, 3) in [0, 1].
        name: of the palette, from `recognise`.

    Returns:
        (H, W), float32 in [0, 1], in steps of 1/255.

    Warns:
        PaletteWarning: always, with the name of the palette.
    """
    text = f"{path}: taken for the palette {name!r}, which ends hot"
    warnings.warn(f"{text}; --ir-invert if it is the reversed one", PaletteWarning, stacklevel=4)
    far, entry = _trees()[name].query(image * 255)
    nearest = distance_transform_edt(far > TOLERANCE, return_distances=False, return_indices=True)
    return (entry / 255).astype(np.float32)[tuple(nearest)]


def describe(name: str | None) -> str:
    """What a colour image looks like, and how it can be read as infrared."""
    if name is None:
        return (
            f"a visible image, or pseudo-colour of a palette that is not known here "
            f"({', '.join(_trees())}); expected grey. If its colours brighten with heat "
            f'throughout, their luma will do: ir_rgb="luma" (--ir-rgb luma)'
        )
    by_luma = ' or, since it brightens with heat, ir_rgb="luma" (--ir-rgb luma)'
    return (
        f"pseudo-colour of the palette {name!r}; expected grey. Turn it back into heat with "
        f'ir_rgb="palette" (--ir-rgb palette)'
        f"{by_luma if brightens(name) else ', as its luma does not rise with heat'}"
    )


@functools.cache
def brightens(name: str) -> bool:
    """Whether the luma (BT.601) of a palette rises with heat, to 2 levels of rounding."""
    luma = _trees()[name].data @ (0.299, 0.587, 0.114)
    return bool((np.maximum.accumulate(luma) - luma).max() <= 2)


@functools.cache
def _trees() -> dict[str, cKDTree]:
    """The 256 colours of every palette, 0–255, as trees in which the nearest is found."""
    with LIST.open(encoding="utf-8", newline="") as file:
        rows = {row["name"]: row["colours"].split() for row in csv.DictReader(file)}
    return {name: cKDTree([list(bytes.fromhex(c)) for c in rows[name]]) for name in rows}


def _sample(image: Array) -> Array:
    """At most 5,000 pixels, 0–255, at even distances."""
    pixels = image.reshape(-1, 3)
    return pixels[:: len(pixels) // 5_000 + 1].astype(np.float64) * 255
