"""False colour: which palette an infrared image was coloured with, and the heat it stood for.

Cameras and plots colour heat by a table of 256 colours. In tables that brighten with heat (iron,
inferno, hot) the luma still orders heat; in rainbows (jet, turbo) it does not: the hottest pixels
are darker than the lukewarm ones, so that people would turn black.
"""

import functools
import warnings
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from fusionlib.errors import ImageError

Array = np.ndarray

# colours at even steps from cold to hot, smooth in between. Turbo: A. Mikhailov (2019). Inferno,
# plasma, magma, viridis: S. van der Walt, N. Smith (2015), CC0. Iron: thermal cameras, "ironbow"
SMOOTH = {
    "turbo": "30123b 4143a7 4771e9 3e9bfe 22c5e2 1ae4b6 46f884 88ff4e "
    "b9f635 e1dd37 faba39 fd8d27 f05b12 d63506 af1801 7a0403",
    "inferno": "000004 0c0826 240c4f 420a68 5d126e 781c6d 932667 ae305c "
    "c73e4c dd513a ed6925 f8850f fca50a fac62d f2e661 fcffa4",
    "plasma": "0d0887 330597 5002a2 6a00a8 8405a7 9c179e b12a90 c33d80 "
    "d35171 e16462 ed7953 f68f44 fca636 fec029 f9dc24 f0f921",
    "magma": "000004 0b0924 20114b 3b0f70 57157e 721f81 8c2981 a8327d "
    "c43c75 de4968 f1605d fa7f5e fe9f6d febf84 fddea0 fcfdbf",
    "viridis": "440154 481a6c 472f7d 414487 39568c 31688e 2a788e 23888e "
    "1f988b 22a884 35b779 54c568 7ad151 a5db36 d2e21b fde725",
    "iron": "00000a 0c0074 3d0093 6e009c 9c009b bb0593 cf197b e0373b "
    "eb5309 f26e01 f88c00 fdad00 feca01 ffe227 fff493 fffff6",
}
# for red, green and blue: the heats at which the lines between them bend, and the levels there
BENT = {
    "jet": (
        ((0.35, 0.66, 0.89, 1), (0, 1, 1, 0.5)),
        ((0.125, 0.375, 0.64, 0.91), (0, 1, 1, 0)),
        ((0, 0.11, 0.34, 0.65), (0.5, 1, 1, 0)),
    ),
    "jet of MATLAB and OpenCV": (
        ((0.375, 0.625, 0.875, 1), (0, 1, 1, 0.5)),
        ((0.125, 0.375, 0.625, 0.875), (0, 1, 1, 0)),
        ((0, 0.125, 0.375, 0.625), (0.5, 1, 1, 0)),
    ),
    "hot": (
        ((0, 0.365079), (0.0416, 1)),
        ((0.365079, 0.746032), (0, 1)),
        ((0.746032, 1), (0, 1)),
    ),
    "hues from blue to red": (
        ((0.5, 0.75), (0, 1)),
        ((0, 0.25, 0.75, 1), (0, 1, 1, 0)),
        ((0.25, 0.5), (1, 0)),
    ),
}
HEATS = np.linspace(0, 1, 256)
# as JPEG of quality 75 with half of the colour's resolution leaves them, and photos never are
NEAR = 12  # levels between a pixel and the palette, in the median
TOLERANCE = 30  # levels beyond which a pixel says nothing: edges in JPEG files, a scale, a logo
FAR = 0.2  # share of such pixels
UNEXPLAINED = 0.03  # of the squared colour of the image, between it and the palette
_EXPORT = "Export the image in grey (white-hot) from the camera's program"
VIVID = 90  # levels between the channels: most of a rainbow has more, most of a photo less
_KNOWN = ", ".join((*BENT, *SMOOTH, "rainbow of matplotlib"))


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
    names = recognise(image)
    if len(names) > 1:
        raise ImageError(f"{path}: {_unclear(names)}")
    if not names:
        raise ImageError(f"{path}: none of the palettes known here fits ({_KNOWN}). {_EXPORT}")
    text = f"{path}: taken for the palette {names[0]!r}, which ends hot"
    warnings.warn(f"{text}; --ir-invert if it is the reversed one", PaletteWarning, stacklevel=4)
    levels = np.rint(image.reshape(-1, 3) * 255).astype(np.int32)
    codes, places = np.unique(levels @ [1 << 16, 1 << 8, 1], return_inverse=True)
    far, entry = _trees()[names[0]].query(np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1))
    values = HEATS[entry[places]].reshape(image.shape[:2])
    off = (far > TOLERANCE)[places].reshape(values.shape)
    nearest = distance_transform_edt(off, return_distances=False, return_indices=True)
    return values[tuple(nearest)].astype(np.float32)


def check_luma(path: Path | str, image: Array) -> None:
    """Raise ImageError where the luma of false colour (H, W, 3) in [0, 1] cannot order heat."""
    names = recognise(image)
    if len(names) > 1:
        raise ImageError(f"{path}: {_unclear(names)}")
    if names and not brightens(names[0]):
        raise ImageError(
            f"{path}: the luma of the palette {names[0]!r} does not rise with heat: the hottest "
            f'pixels would become dark. Use ir_rgb="palette" (--ir-rgb palette)'
        )
    if not names and _is_rainbow(image):
        raise ImageError(
            f"{path}: vivid colours have equal luma, as in rainbow palettes, whose luma does not "
            f"rise with heat; and none of the palettes known here fits ({_KNOWN}). {_EXPORT}"
        )


@functools.cache
def brightens(name: str) -> bool:
    """Whether the luma (BT.601) of a palette rises with heat, to 2 levels of rounding."""
    luma = _trees()[name].data @ [0.299, 0.587, 0.114]
    return bool((np.maximum.accumulate(luma) - luma).max() <= 2)


@functools.cache
def _trees() -> dict[str, cKDTree]:
    """The 256 colours of every palette, 0–255, as trees in which the nearest is found."""
    tables = {
        name: np.stack([np.interp(HEATS, *channel) for channel in channels], axis=1) * 255
        for name, channels in BENT.items()
    }
    for name, colours in SMOOTH.items():
        anchors = np.array([list(bytes.fromhex(colour)) for colour in colours.split()])
        tables[name] = CubicSpline(np.linspace(0, 1, len(anchors)), anchors)(HEATS)
    waves = np.abs(2 * HEATS - 0.5), np.sin(np.pi * HEATS), np.cos(np.pi / 2 * HEATS)
    tables["rainbow of matplotlib"] = np.stack(waves, axis=1) * 255
    return {name: cKDTree(np.rint(table.clip(0, 255))) for name, table in tables.items()}


def _agree(entries: Array, others: Array) -> bool:
    """Whether two palettes order the same pixels alike, from cold to hot."""
    spread = np.std(entries) * np.std(others)
    covariance = np.mean((entries - entries.mean()) * (others - others.mean()))
    return bool(covariance >= 0.8 * spread)


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
