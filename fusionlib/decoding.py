"""From a file to the levels that it stores: the one decode function."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from fusionlib.errors import ImageError

Array = np.ndarray

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif")
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")  # not EPS, which runs Ghostscript
MAX_PIXELS = 64_000_000
ORIENTATION = 0x0112  # EXIF and TIFF
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF
# of EXIF: what shows, maker, model, date, who took it, copyright
KEPT_TAGS = (0x010E, 0x010F, 0x0110, 0x0132, 0x013B, 0x8298)
_lifting = threading.Lock()
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # our errors say what is damaged


class FrameWarning(UserWarning):
    """A file holds several pictures, and the first was taken."""


def decode(path: Path | str, frame: int | None = None, max_pixels: int = MAX_PIXELS) -> Array:
    """Read the levels of an image as the file stores them, upright.

    Args:
        path: image file.
        frame: which frame of an animation or multi-page file; a file with one picture gives that.
            Of an MPO file (drones, phones) the first is the photo, and taken if none is named.
        max_pixels: larger images are refused before they are decoded.

    Returns:
        (H, W) or (H, W, 3) of the type that is stored, integers or floats of 8 to 64 bits.

    Raises:
        ImageError: not an image, damaged, or of a kind named in the message.

    Warns:
        FrameWarning: the first picture of an MPO file was taken.
    """
    path, unchosen = Path(path), 0
    with _opened(path) as file:
        try:
            # by name Pillow would map the file, and so garble TIFF files with an orientation
            with Image.open(file, formats=FORMATS) as image:
                _check_size(path, image.size, max_pixels)  # before what seeking may decode
                if image.format == "MPO" and frame is None:
                    frame, unchosen = 0, image.n_frames
                image.seek(_chosen(path, getattr(image, "n_frames", 1), frame))
                _check_size(path, image.size, max_pixels)  # pages differ in size
                if image.format == "TIFF" and _pillow_changes_levels(image):
                    raise UnidentifiedImageError
                stored = _levels(path, file, image)
                orientation = image.getexif().get(ORIENTATION, 1)
        except UnidentifiedImageError:  # TIFF of 64-bit floats, for example
            stored, orientation = _decode_tiff(path, file, frame, max_pixels)
        stored = _upright(_without_alpha(path, stored), orientation)
    if unchosen:
        text = f"{path}: the first of its {unchosen} pictures is taken; --frame chooses another"
        warnings.warn(text, FrameWarning, stacklevel=3)
    return stored


def image_size(path: Path | str, frame: int | None = None) -> tuple[int, int]:
    """(height, width) from the header, without decoding the pixels.

    EXIF that turns the image counts where it stands before the pixels, as it almost always does.
    Raises ImageError for what is not an image.
    """
    path = Path(path)
    with _opened(path) as file:
        try:
            with Image.open(file, formats=FORMATS) as image:
                image.seek(_chosen(path, getattr(image, "n_frames", 1), frame or 0))
                (width, height), orientation = image.size, 1
                if image.format != "TIFF":  # its size heeds the orientation by itself
                    exif = Image.Image.getexif(image)  # that of PNG files decodes the pixels
                    orientation = exif.get(ORIENTATION, 1)
        except UnidentifiedImageError:
            with _tiff_page(path, file, frame) as (page, orientation):
                height, width = page.imagelength, page.imagewidth
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def describe(path: Path | str, has_colour: bool) -> dict[str, bytes]:
    """EXIF and colour profile of an image, for an upright copy of its size, as Pillow saves them.

    Camera, time and place, without orientation and thumbnail; a profile only if it is of colours
    where the copy has colour. What is damaged is left out, with a UserWarning.
    """
    try:
        with _opened(Path(path)) as file, Image.open(file, formats=FORMATS) as image:
            found, exif = image.getexif(), Image.Exif()
            for tag in set(KEPT_TAGS).intersection(found):  # those of TIFF files tell the layout
                exif[tag] = found[tag]
            for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                if values := found.get_ifd(part):
                    exif[part] = dict(values)
            kept = {"exif": exif.tobytes()} if len(exif) else {}
            profile = image.info.get("icc_profile") or b""
    except Exception as error:  # cameras write almost anything
        warnings.warn(f"{path}: EXIF and colour profile are left out ({error})", stacklevel=3)
        return {}
    fits = profile[16:20] == (b"RGB " if has_colour else b"GRAY")
    return kept | ({"icc_profile": profile} if fits else {})


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """An image file; what its decoders raise becomes an ImageError, what they warn of is ignored.

    Pillow's own limit on pixels, which is the process's, is lifted: sizes are checked here.
    """
    if not os.path.isfile(path):  # to open a pipe would wait for ever
        what = "a folder or a pipe" if os.path.exists(path) else "no such file"
        raise ImageError(f"{path}: {what}, not an image")
    with warnings.catch_warnings(), _lifting:
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            with path.open("rb") as file:
                yield file
        except ImageError:
            raise
        except Exception as error:  # decoders raise almost anything on damaged files
            raise ImageError(
                f"{path}: cannot be read as an image, damaged or not one ({error}); "
                f"accepted: {', '.join(SUFFIXES)}"
            ) from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"{path}: {width}×{height} = {width * height} is more than max_pixels={max_pixels:,}. "
            f"Cut it, scale it down, or allow more with max_pixels (--max-pixels)"
        )


def _chosen(path: Path, frames: int, frame: int | None) -> int:
    """The frame that is meant; for a pair it may be named for the sake of the other image."""
    if frames == 1 and (frame or 0) >= 0:
        return 0
    if frame is None or not 0 <= frame < frames:
        wrong = "" if frame is None else f"no frame {frame}, "
        raise ImageError(
            f"{path}: has {wrong}{frames} frames; choose one with frame=0…{frames - 1} (--frame)"
        )
    return frame


def _levels(path: Path, file: BinaryIO, image: Image.Image) -> Array:
    """Pixels with the channels of the file, alpha among them: uint8, uint16, int32 or float32."""
    if image.format == "PNG":
        with Image.open(path, formats=FORMATS) as again:
            again.verify()  # the pixels' checksums, which decoding skips
        if image.tile[0].args in ("LA;16B", "RGB;16B", "RGBA;16B"):  # Pillow keeps 8 of the bits
            return _decode_deep_png(file)
    is_deep = image.mode.startswith("I")  # "RGBA" would clip it
    if image.mode in ("P", "PA", "1", "RGBa") or ("transparency" in image.info and not is_deep):
        image = image.convert("RGBA")
    if image.mode not in ("L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"):
        raise ImageError(
            f"{path}: colour mode {image.mode} is not accepted; save it as grey or RGB"
        )
    return np.asarray(image)


def _decode_deep_png(file: BinaryIO) -> Array:
    import torch
    from torchvision.io import ImageReadMode, decode_image  # seconds, and few files need it

    file.seek(0)
    data = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    return decode_image(data, ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()


def _pillow_changes_levels(image: Image.Image) -> bool:
    """Whether Pillow cuts the levels of a TIFF file to 8 bits, drops their sign or wraps them."""
    bits = max(image.tag_v2.get(BITS, (1,)))
    kind = image.tag_v2.get(SAMPLE_FORMAT, (1,))[0]  # 1 without, 2 with a sign
    is_plain = image.mode in ("L", "P", "1", "I", "F", "I;16", "I;16B")
    if bits > 8 and (not is_plain or image.tag_v2.get(PHOTOMETRIC) == 0):  # white is zero
        return True
    return (bits, kind) in ((8, 2), (32, 1))


@contextmanager
def _tiff_page(path: Path, file: BinaryIO, frame: int | None) -> Iterator[tuple]:
    """A page as tifffile sees it, and its orientation."""
    import tifffile

    file.seek(0)
    if file.read(2) not in (b"II", b"MM"):
        raise UnidentifiedImageError("no known format")
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[_chosen(path, len(tiff.pages), frame)]
        tag = page.tags.get(ORIENTATION)
        yield page, int(tag.value) if tag else 1


def _decode_tiff(
    path: Path, file: BinaryIO, frame: int | None, max_pixels: int
) -> tuple[Array, int]:
    """Levels and orientation of a page as tifffile sees it."""
    with _tiff_page(path, file, frame) as (page, orientation):
        _check_size(path, (page.imagewidth, page.imagelength), max_pixels)
        if page.photometric not in (1, 2):  # black is zero, RGB
            raise ImageError(
                f"{path}: colour mode {page.photometric.name} with {page.bitspersample} bits is "
                f"not accepted; save it as grey (black is zero) or RGB"
            )
        stored = page.asarray()
        if stored.ndim == 3 and page.planarconfig == 2:  # channels one after the other
            stored = np.moveaxis(stored, 0, 2)
        return stored, orientation


def _without_alpha(path: Path, stored: Array) -> Array:
    """(H, W) or (H, W, 1…4) → (H, W) or (H, W, 3)."""
    channels = 1 if stored.ndim == 2 else stored.shape[2]
    if stored.ndim > 3 or channels > 4 or stored.dtype.kind not in "uif":
        raise ImageError(
            f"{path}: has shape {stored.shape} and type {stored.dtype}; expected one to four "
            f"channels of integers or floats"
        )
    if channels in (2, 4):
        opaque = np.iinfo(stored.dtype).max if stored.dtype.kind in "iu" else 1
        if (lowest := stored[:, :, -1].min()) < opaque:
            _refuse_transparent(path, lowest)
        stored, channels = stored[:, :, :-1], channels - 1
    return stored.reshape(stored.shape[:2]) if channels == 1 else stored


def _refuse_transparent(path: Path, lowest: float) -> None:
    raise ImageError(
        f"{path}: has transparent pixels (alpha down to {lowest}); what lies behind them is "
        f"unknown. Save it without an alpha channel. If the fourth channel is no alpha but a "
        f"thermal image (as MFNet has it), split the file into two: the first three channels are "
        f"the visible image, the fourth is the infrared one."
    )


def _upright(stored: Array, orientation: int) -> Array:
    """Undo what EXIF says of the way in which rows and columns run."""
    if orientation in (5, 6, 7, 8):
        stored = stored.swapaxes(0, 1)
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return stored[:: -1 if rows else 1, :: -1 if columns else 1]
