"""Images in and out: one decode function, one save function, and the colour space between.

Inside the package an infrared image is ``(H, W)`` and a visible one ``(H, W, 3)``, float32 in
[0, 1]. Nothing is ever stretched to its own minimum and maximum.
"""

import functools
import hashlib
import io
import secrets
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from fusionlib.errors import ImageError
from fusionlib.files import write_atomically

Array = np.ndarray

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif")
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")  # not EPS, which runs Ghostscript
MAX_PIXELS = 64_000_000
GREY_TOLERANCE = 2  # levels by which stored "grey" RGB may differ, as JPEG leaves them
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float64)  # BT.601

Range = tuple[float, float]


def read_ir(
    path: Path | str,
    *,
    ir_range: Range | None = None,
    ir_rgb: Literal["grey", "luma"] = "grey",
    frame: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Array:
    """Read an infrared image.

    Args:
        path: image file; 8-bit, 16-bit (divided by 65535) or float (must lie in [0, 1]).
        ir_range: levels that become 0 and 1; values outside are clipped.
        ir_rgb: three channels must agree to 2 levels (``"grey"``), or their luma is taken.
        frame: which frame of an animation or multi-page file.
        max_pixels: larger images are refused before they are decoded.

    Returns:
        (H, W), float32 in [0, 1].

    Raises:
        ImageError: not an image, damaged, or of a kind named in the message.
    """
    image = _normalise(path, _decode(Path(path), frame, max_pixels), ir_range)
    if image.ndim == 2:
        return image
    spread = float((image.max(axis=2) - image.min(axis=2)).max() * 255)
    if ir_rgb == "grey" and spread > GREY_TOLERANCE + 0.5:
        raise ImageError(
            f"{path}: an infrared image with three channels that differ by up to {spread:.0f} "
            f"levels looks like pseudo-colour or a visible image; expected grey. "
            f'Pass ir_rgb="luma" (--ir-rgb luma) to use its luma.'
        )
    return luma8(image).astype(np.float32) / np.float32(255)


def read_vi(path: Path | str, *, frame: int | None = None, max_pixels: int = MAX_PIXELS) -> Array:
    """Read a visible image as RGB, (H, W, 3), float32 in [0, 1]; grey gets three equal channels.

    Arguments and errors are those of `read_ir`.
    """
    image = _normalise(path, _decode(Path(path), frame, max_pixels))
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image


def read_luma8(path: Path | str, *, frame: int | None = None) -> Array:
    """Read any image as what the metrics see: (H, W), uint8 luma, rounded half up."""
    image = _normalise(path, _decode(Path(path), frame, MAX_PIXELS))
    return luma8(image) if image.ndim == 3 else np.rint(image * 255).astype(np.uint8)


def pixel_sha256(path: Path | str) -> str:
    """sha256 of depth, shape and stored levels of an image, whatever file format holds them.

    What is read alike is hashed alike: lossless copies, a palette and its colours, an orientation
    and the image turned, grey and three equal channels. Raises ImageError as `read_ir`.
    """
    stored = _decode(Path(path), None, MAX_PIXELS)
    if stored.ndim == 3:
        red, green, blue = np.moveaxis(stored, 2, 0)
        stored = red if np.array_equal(red, green) and np.array_equal(red, blue) else stored
    stored = np.ascontiguousarray(stored, stored.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{stored.dtype.str}{stored.shape}".encode())
    digest.update(stored)
    return digest.hexdigest()


def image_size(path: Path | str) -> tuple[int, int]:
    """(height, width) from the header, without decoding the pixels.

    EXIF that turns the image counts where it stands before the pixels, as it almost always does.
    Raises ImageError for what is not an image.
    """
    _check_file(Path(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                exif = Image.Image.getexif(image)  # that of PNG files would decode the pixels
                # orientation: turned by 90°, which the size of TIFF files heeds by itself
                if image.format != "TIFF" and exif.get(0x0112) in (5, 6, 7, 8):
                    return image.width, image.height
                return image.height, image.width
    except Exception as error:
        raise ImageError(f"{path}: cannot be read as an image ({error})") from error


def is_grey(vi: Array) -> bool:
    """Whether an RGB image (H, W, 3) in [0, 1] has no colour, to 2 of 255 levels."""
    return bool((vi.max(axis=2) - vi.min(axis=2)).max() * 255 <= GREY_TOLERANCE + 0.5)


def luma8(rgb: Array) -> Array:
    """BT.601 luma, rounded half up: (H, W, 3) in [0, 1] → (H, W) uint8."""
    levels = np.rint(rgb.astype(np.float64) * 255)
    # 1e-9: 0.299 r + 0.587 r + 0.114 r must not fall below r by a rounding error
    return np.floor(levels @ LUMA + 0.5 + 1e-9).clip(0, 255).astype(np.uint8)


def luma(rgb: Array) -> Array:
    """BT.601 luma, not rounded: (H, W, 3) → (H, W), same range and float32."""
    return (rgb @ LUMA.astype(np.float32)).astype(np.float32)


def replace_luma(rgb: Array, y: Array) -> Array:
    """Give an RGB image another luma and keep its Cb and Cr (BT.601, full range).

    Where that would leave the range of RGB, Cb and Cr are scaled down until it does not, since
    clipping R, G and B alone would change the luma, which is what is measured.

    Args:
        rgb: (H, W, 3) in [0, 1].
        y: new luma, (H, W) in [0, 1].

    Returns:
        (H, W, 3), float32, in [0, 1].
    """
    y = y[:, :, None]
    chroma = rgb - luma(rgb)[:, :, None]  # R − Y, G − Y, B − Y: linear in Cb and Cr
    room = np.where(chroma > 0, 1 - y, y) / np.maximum(np.abs(chroma), 1e-9)
    scaled = y + chroma * np.minimum(room.min(axis=2, keepdims=True), 1)
    return np.clip(scaled, 0, 1).astype(np.float32)


def check_target(path: Path | str) -> Path:
    """The path, if its suffix names a format that `save_image` writes; else ImageError."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ImageError(
            f"{path}: cannot write {path.suffix or 'a file without suffix'!r}; "
            f"one of {', '.join(SUFFIXES)}"
        )
    return path


def save_image(path: Path | str, image: Array) -> Path:
    """Write an image: clip, round half to even, 8 bit; the file appears whole or not at all.

    Args:
        path: target; its suffix decides the format. Missing folders are made.
        image: (H, W) or (H, W, 3), float in [0, 1] or uint8.

    Raises:
        ImageError: other shape, empty, other integers, not finite, a suffix that no format has, or
            more than the format can hold.
        FusionError: disk full, read-only folder and the like; a file of that name stays as it was.
    """
    path = check_target(path)
    if image.size == 0 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ImageError(f"{path}: cannot save shape {image.shape}; expected (H, W) or (H, W, 3)")
    if image.dtype != np.uint8:
        if image.dtype.kind not in "fb":
            raise ImageError(f"{path}: cannot save {image.dtype}; expected uint8, or float in 0…1")
        if not np.isfinite(image).all():
            raise ImageError(f"{path}: {np.sum(~np.isfinite(image))} values are not finite")
        image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    encoded = io.BytesIO()
    try:
        Image.fromarray(image).save(encoded, Image.registered_extensions()[path.suffix.lower()])
    except (OSError, ValueError) as error:  # such as more pixels in a row than a JPEG can have
        raise ImageError(f"{path}: cannot save shape {image.shape} ({error})") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{path.parent}: cannot be made ({error.strerror})") from error
    # hidden, so that no listing takes what a kill leaves for an image; as short as any name
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    write_atomically(path, encoded.getvalue(), temporary)
    return path


def _decode(path: Path, frame: int | None, max_pixels: int) -> Array:
    """The one decode function: file → (H, W) or (H, W, 3), levels as stored."""
    _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own on size; checked below
            # by name Pillow would map the file, and so garble TIFF files with an orientation
            with path.open("rb") as file:
                with Image.open(file, formats=FORMATS) as image:
                    _check_header(path, image, frame, max_pixels)
                    if image.format == "PNG":
                        image.verify()  # the pixels' checksums, which decoding skips
                file.seek(0)
                with Image.open(file, formats=FORMATS) as image:
                    image.seek(frame or 0)
                    _check_header(path, image, frame, max_pixels)  # pages differ in size
                    image.load()
                    image = ImageOps.exif_transpose(image)
        return _to_array(path, image)
    except (ImageError, UserWarning):  # the latter where the user made warnings errors
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, whatever max_pixels is
        raise ImageError(f"{path}: {error} Scale it down.") from error
    except Exception as error:  # decoders raise almost anything on damaged files
        raise ImageError(
            f"{path}: cannot be read as an image, damaged or not one ({error}); "
            f"accepted: {', '.join(SUFFIXES)}"
        ) from error


def _check_file(path: Path) -> None:
    """Refuse what is no file before it is opened: opening a pipe waits for ever."""
    try:
        if path.is_file():
            return
        what = "a folder" if path.is_dir() else "a pipe" if path.exists() else "no such file"
    except OSError as error:  # a name that is too long, a folder that may not be entered
        what = str(error.strerror)
    raise ImageError(f"{path}: {what}, not an image")


def _check_header(path: Path, image: Image.Image, frame: int | None, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(f"{path}: {width}×{height} is more than max_pixels={max_pixels:,}")
    frames = getattr(image, "n_frames", 1)
    if frame is None and frames > 1:
        raise ImageError(f"{path}: has {frames} frames; choose one with frame=0…{frames - 1}")
    if frame is not None and not 0 <= frame < frames:
        raise ImageError(f"{path}: frame {frame} of {frames}; choose 0…{frames - 1}")


@functools.cache  # once: Python's own "once" forgets at every `warnings.catch_warnings`
def _note_conversion(mode: str) -> None:
    warnings.warn(f"images of mode {mode} are converted through RGB", stacklevel=5)


def _to_array(path: Path, image: Image.Image) -> Array:
    """Pixels as stored: uint8, uint16, int32 or float32, (H, W) or (H, W, 3)."""
    if image.mode in ("P", "1"):
        _note_conversion(image.mode)
    alpha, key = 255, image.info.get("transparency")  # one level or colour, or a palette's alpha
    if key is not None and image.mode.startswith("I"):  # 16 bit: "RGBA" would clip it
        alpha = 0 if (np.asarray(image) == key).any() else 255
    elif key is not None or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        if isinstance(key, tuple) and max(key) > 255:  # of 16-bit colour Pillow keeps 8 bits
            image.info["transparency"] = tuple(level >> 8 for level in key)
        image = image.convert("RGBA")
        alpha = image.getchannel("A").getextrema()[0]
        image = image.convert("RGB")
    if alpha < 255:
        raise ImageError(
            f"{path}: has transparent pixels (alpha down to {alpha}); what lies behind them is "
            f"unknown. Save it without an alpha channel."
        )
    if image.mode in ("P", "1"):
        image = image.convert("RGB")
    if image.mode not in ("L", "RGB", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"):
        raise ImageError(
            f"{path}: colour mode {image.mode} is not accepted; save it as grey or RGB"
        )
    return np.asarray(image)


def _normalise(path: Path | str, stored: Array, value_range: Range | None = None) -> Array:
    """Stored pixels to float32 in [0, 1]."""
    if stored.dtype.kind == "f" and (bad := int(np.sum(~np.isfinite(stored)))):
        raise ImageError(f"{path}: {bad} pixels are not finite")
    if value_range is not None:
        low, high = value_range
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ImageError(f"ir_range=({low}, {high}): expected finite low < high")
        return np.clip((stored.astype(np.float64) - low) / (high - low), 0, 1).astype(np.float32)
    if stored.dtype == np.uint8:
        return stored.astype(np.float32) / np.float32(255)
    low, high = float(stored.min()), float(stored.max())
    white = 1.0 if stored.dtype.kind == "f" else 65535.0
    if low < 0 or high > white:
        raise ImageError(
            f"{path}: values from {low:g} to {high:g} are outside 0…{white:g}; "
            f"say which levels are black and white with ir_range=(low, high)"
        )
    return (stored.astype(np.float64) / white).astype(np.float32)
