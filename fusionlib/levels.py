"""Which stored levels are black and which are white.

A range is given for a set of images, or found over all of it, and never for one image by itself:
the same heat is the same grey in every frame.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from fusionlib.decoding import MAX_PIXELS, decode
from fusionlib.errors import ImageError

Array = np.ndarray
Range = tuple[float, float]
Side = Literal["ir", "vi"]

CLIPPED = 0.03  # share of the pixels beyond one end of a given range that is worth a warning


class LevelsWarning(UserWarning):
    """A given range turns a good part of an image black or white."""


def find_range(
    paths: Iterable[Path | str],
    side: Side,
    frame: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Range:
    """One range for all images of one side; none of them loses more than 0.1 % at either end.

    Args:
        paths: the image files.
        side: ``"ir"`` or ``"vi"``, for messages.
        frame: see `fusionlib.images.read_ir`, also for ``max_pixels``.
        max_pixels: larger images are refused.

    Returns:
        The lowest 0.1 and the highest 99.9 percentile of any image, as stored levels.

    Raises:
        ImageError: no files, a damaged one, or one level everywhere.
    """
    ends: list[float] = []
    for path in paths:
        stored = decode(path, frame, max_pixels)
        _check_finite(path, stored)
        ends += _span(stored)
    if not ends or min(ends) == max(ends):
        raise ImageError(f"--{side}-range auto: {'one level' if ends else 'no images'}, no range")
    return min(ends), max(ends)


def scale(path: Path | str, stored: Array, given: Range | None, side: Side) -> Array:
    """Stored levels → float32 in [0, 1].

    Args:
        path: for messages.
        stored: any shape and type.
        given: levels that become 0 and 1; values outside are clipped. None: the full scale of
            the type, 255, 65535 or, for floats, 1.
        side: ``"ir"`` or ``"vi"``, for messages.

    Raises:
        ImageError: pixels that are not finite, a range that cannot be meant for this file, or none
            where one is needed.
    """
    _check_finite(path, stored)
    if given is not None:
        return _scale_by(path, stored, given, side)
    if stored.dtype == np.uint8:
        return stored.astype(np.float32) / np.float32(255)
    white = 1.0 if stored.dtype.kind == "f" else 65535.0
    as_they_are = ""
    if stored.min() < 0 or stored.max() > white:
        flaw = f"there are levels outside 0…{white:g}"
    elif _is_raw(stored, white):
        flaw = f"nearly all levels use little of 0…{white:g}, as raw counts do, and would be fog"
        as_they_are = f", or --{side}-range 0 {white:g} if they are meant as they are"
    else:
        return (stored.astype(np.float64) / white).astype(np.float32)
    low, high = _shown(stored)
    raise ImageError(
        f"{path}: {flaw}; say which levels are black and white: --{side}-range {low:.6g} "
        f"{high:.6g} ({side}_range=(low, high)) for this file, --{side}-range auto for one range "
        f"over all files{as_they_are}"
    )


def _scale_by(path: Path | str, stored: Array, given: Range, side: Side) -> Array:
    low, high = given
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        how = "; for black-hot infrared use ir_invert=True (--ir-invert)" if side == "ir" else ""
        raise ImageError(
            f"{path}: {side}_range=({low:g}, {high:g}), expected finite LOW < HIGH{how}"
        )
    if stored.dtype == np.uint8 and (low < 0 or high > 255):
        raise ImageError(
            f"{path}: has 8 bits, levels 0…255, which {side}_range=({low:g}, {high:g}) "
            f"(--{side}-range) cannot be meant for; fuse raw and 8-bit files apart"
        )
    for beyond, colour in ((stored < low, "black"), (stored > high, "white")):
        if (share := beyond.mean()) > CLIPPED:
            least, most = _shown(stored)
            warnings.warn(
                f"{path}: {share:.0%} of the values become {colour} with {side}_range="
                f"({low:g}, {high:g}); the levels are {least:.6g}…{most:.6g}",
                LevelsWarning,
                stacklevel=4,
            )
    return np.clip((stored.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)


def _is_raw(stored: Array, white: float) -> bool:
    """Whether levels use so little of their scale that they can hardly be meant for it.

    Scaled images, dark scenes among them, use more: of 250 8-bit images of the five datasets the
    poorest fills 29 % of its scale. 12 bits in a 16-bit file fill 6 %, 14 bits 25 %, and heat in
    hundredths of a kelvin a narrow band far above black. Between 10 and 25 % a dark scene is told
    from 14 bits by its lamps, which raw counts cannot reach. Not raw: one level everywhere, which
    holds nothing to lose, and 8 bits that were widened (times 257 or 256, or over 255).
    """
    low, high = np.array(_span(stored)) / white
    used, most = high - low, stored.max() / white
    if white == 1:
        widened = bool(np.allclose(stored * 255, np.rint(stored * 255), atol=1e-3))
    else:
        widened = not (stored % 257).any() or not (stored % 256).any()
    if stored.min() == stored.max() or used >= 0.25 or widened:
        return False
    return bool(used < 0.1 or most <= 0.25 or low > used)


def _span(stored: Array) -> Range:
    """Lowest and highest level but for 0.1 % at either end, where dead and hot pixels lie."""
    low = float(np.percentile(stored, 0.1, method="lower"))
    high = float(np.percentile(stored, 99.9, method="higher"))
    return low, high


def _shown(stored: Array) -> Range:
    """`_span` for messages: all levels where nearly all are one."""
    low, high = _span(stored)
    return (low, high) if low < high else (float(stored.min()), float(stored.max()))


def _check_finite(path: Path | str, stored: Array) -> None:
    if stored.dtype.kind == "f" and (bad := int(np.sum(~np.isfinite(stored)))):
        raise ImageError(f"{path}: {bad} pixels are not finite")
