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
# as JPEG of quality 75 with half of the colour's resolution leaves them, and photos never are
NEAR = 12  # levels between a pixel and the palette, in the median
TOLERANCE = 30  # levels beyond which a pixel says nothing: edges in JPEG files, a scale, a logo
FAR = 0.2  # share of such pixels
UNEXPLAINED = 0.03  # of the squared colour of the image, between it and the palette
_EXPORT = "Export the image in grey (white-hot) from the camera's program"
VIVID = 90  # levels between the channels: most of a rainbow has more, most of a photo less


class PaletteWarning(UserWarning):
    """Which palette an image was taken for; nothing in it says which end is hot."""


def recognise(image: Array) -> tuple[str, ...]:
    """The palette that an image (H, W, 3) in [0, 1] was coloured with.

    Nothing if none fits; several if they fit equally well and disagree on what is hot, as jet and
    hot do on the way from red to yellow.
    """
    pixels = _sample(image)
    colour = np.mean(np.ptp(pixels, axis=1) ** 2)
    cost, entries = {}, {}
    for name, tree in _trees().items():
        far, entries[name] = tree.query(pixels)
        is_near = np.median(far) <= NEAR and np.mean(far > TOLERANCE) <= FAR
        if is_near and np.mean(far**2) <= UNEXPLAINED * colour:
            cost[name] = np.mean(np.minimum(far, TOLERANCE) ** 2)
    if not cost:
        return ()
    best = min(cost, key=cost.get)
    rivals = (name for name in cost if name != best and cost[name] <= 2 * cost[best] + 4)
    return (best, *(name for name in rivals if not _agree(entries[best], entries[name])))


def describe(image: Array) -> str:
    """What a colour image (H, W, 3) in [0, 1] looks like, and how it can be read as infrared."""
    names = recognise(image)
    if not names:
        return (
            "a visible image, or pseudo-colour of a palette that is not known here; expected grey. "
            "If its colours brighten with heat throughout, their luma will do: "
            'ir_rgb="luma" (--ir-rgb luma)'
        )
    if len(names) > 1:
        return f"pseudo-colour; expected grey. {_unclear(names)}"
    by_luma = ' or, since it brightens with heat, ir_rgb="luma" (--ir-rgb luma)'
    return (
        f"pseudo-colour of the palette {names[0]!r}; expected grey. Turn it back into heat with "
        f'ir_rgb="palette" (--ir-rgb palette){by_luma if brightens(names[0]) else ""}'
    )


def heat(path: Path | str, image: Array) -> Array:
    """Turn false colour back into heat: the nearest colour of the palette that fits.

    Pixels that no colour of it is near, at edges in JPEG files for example, get the heat of the
    nearest pixel that has one.

    Args:
        path: for messages.
        image: (H, W, 3) in [0, 1].

    Returns:
        (H, W), float32 in [0, 1], in steps of 1/255.

    Raises:
        ImageError: no palette known here fits, or several that disagree.

    Warns:
        PaletteWarning: always, with the name of the palette.
    """
    if (name := _only(path, image)) is None:
        raise ImageError(f"{path}: {_unknown()}")
    text = f"{path}: taken for the palette {name!r}, which ends hot"
    warnings.warn(f"{text}; --ir-invert if it is the reversed one", PaletteWarning, stacklevel=4)
    levels = np.rint(image.reshape(-1, 3) * 255).astype(np.int32)
    codes, places = np.unique(levels @ [1 << 16, 1 << 8, 1], return_inverse=True)
    far, entry = _trees()[name].query(np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1))
    values = (entry[places] / 255).reshape(image.shape[:2])
    off = (far > TOLERANCE)[places].reshape(values.shape)
    nearest = distance_transform_edt(off, return_distances=False, return_indices=True)
    return values[tuple(nearest)].astype(np.float32)


def check_luma(path: Path | str, image: Array) -> None:
    """Raise ImageError where the luma of false colour (H, W, 3) in [0, 1] cannot order heat."""
    name = _only(path, image)
    if name and not brightens(name):
        raise ImageError(
            f"{path}: the luma of the palette {name!r} does not rise with heat: the hottest "
            f'pixels would become dark. Use ir_rgb="palette" (--ir-rgb palette)'
        )
    if not name and _is_rainbow(image):
        raise ImageError(
            f"{path}: vivid colours have equal luma, as in rainbow palettes, whose luma does not "
            f"rise with heat; and {_unknown()}"
        )


@functools.cache
def brightens(name: str) -> bool:
    """Whether the luma (BT.601) of a palette rises with heat, to 2 levels of rounding."""
    luma = _trees()[name].data @ [0.299, 0.587, 0.114]
    return bool((np.maximum.accumulate(luma) - luma).max() <= 2)


@functools.cache
def _trees() -> dict[str, cKDTree]:
    """The 256 colours of every palette, 0–255, as trees in which the nearest is found."""
    with LIST.open(encoding="utf-8", newline="") as file:
        rows = {row["name"]: row["colours"].split() for row in csv.DictReader(file)}
    return {name: cKDTree([list(bytes.fromhex(c)) for c in rows[name]]) for name in rows}


def _agree(entries: Array, others: Array) -> bool:
    """Whether two palettes order the same pixels alike, from cold to hot."""
    spread = np.std(entries) * np.std(others)
    covariance = np.mean((entries - entries.mean()) * (others - others.mean()))
    return bool(covariance >= 0.8 * spread)


def _only(path: Path | str, image: Array) -> str | None:
    """The palette of an image, None if none fits; ImageError if several do."""
    if len(names := recognise(image)) > 1:
        raise ImageError(f"{path}: {_unclear(names)}")
    return names[0] if names else None


def _unknown() -> str:
    return f"none of the palettes known here fits ({', '.join(_trees())}). {_EXPORT}"


def _unclear(names: tuple[str, ...]) -> str:
    return (
        f"The colours fit the palettes {' and '.join(map(repr, names))}, which disagree on what is "
        f"hot. {_EXPORT}"
    )


def _is_rainbow(image: Array) -> bool:
    """Whether most pixels are vivid, and those of equal luma have unlike colours."""
    pixels = _sample(image)
    luma = pixels @ [0.299, 0.587, 0.114]
    level = (luma // 8).astype(int)
    count = np.bincount(level)[level]
    within = sum(
        (pixels[:, c] - np.bincount(level, pixels[:, c])[level] / count) ** 2 for c in range(3)
    )
    vivid = np.ptp(pixels, axis=1)
    return bool(np.median(vivid) > VIVID and within.mean() > 0.1 * np.mean(vivid**2))


def _sample(image: Array) -> Array:
    """At most 5,000 pixels, 0–255, at even distances."""
    pixels = image.reshape(-1, 3)
    return pixels[:: len(pixels) // 5_000 + 1].astype(np.float64) * 255
