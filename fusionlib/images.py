"""Images in and out: read as infrared, visible or luma, the colour space between, and saved.

Inside the package an infrared image is ``(H, W)`` and a visible one ``(H, W, 3)``, float32 in
[0, 1]. Nothing is ever stretched to its own minimum and maximum.
"""

import hashlib
import io
import secrets
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fusionlib import levels, palettes
from fusionlib.decoding import MAX_PIXELS, SUFFIXES, decode, describe
from fusionlib.decoding import image_size as image_size  # part of this interface
from fusionlib.errors import ImageError
from fusionlib.files import write_atomically
from fusionlib.levels import Range

Array = np.ndarray

GREY_TOLERANCE = 2  # levels by which stored "grey" RGB may differ, as JPEG leaves them
MAX_STRETCH = 0.02  # by which resizing may change the proportions without a word
# what measuring needs: at their defaults Q_AB/F falls by 3 % (JPEG) and 18 % (WebP)
QUALITY = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True}}
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float64)  # BT.601


def read_ir(
    path: Path | str,
    *,
    ir_range: Range | None = None,
    ir_rgb: Literal["grey", "luma", "palette"] = "grey",
    ir_invert: bool = False,
    frame: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Array:
    """Read an infrared image.

    Args:
        path: image file; 8 bits, 16 bits (divided by 65535) or float (must lie in [0, 1]).
        ir_range: stored levels that become 0 and 1; values outside are clipped. Needed where the
            levels use little of their scale, as raw counts do; see `fusionlib.levels`.
        ir_rgb: three channels must agree to 2 levels (``"grey"``), or they are a false-colour
            palette that is turned back into heat (``"palette"``), or their luma is taken.
        ir_invert: for black-hot images: 1 − x, after the range.
        frame: which frame of an animation or multi-page file; of an MPO file the first by default.
        max_pixels: larger images are refused before they are decoded.

    Returns:
        (H, W), float32 in [0, 1].

    Raises:
        ImageError: not an image, damaged, or of a kind named in the message.

    Warns:
        LevelsWarning: the range clips more than 3 % of the values at one end.
    """
    image = levels.scale(path, decode(path, frame, max_pixels), ir_range, "ir")
    if image.ndim == 3:
        image = _one_channel(path, image, ir_rgb)
    return 1 - image if ir_invert else image


def _one_channel(path: Path | str, image: Array, ir_rgb: str) -> Array:
    """Infrared (H, W, 3) → (H, W), as `read_ir` says."""
    spread = np.ptp(image, axis=2).max() * 255
    if spread == 0:
        return image[:, :, 0]
    if not is_grey(image):
        name = palettes.recognise(path, image)
        if ir_rgb == "palette" and name:
            return palettes.heat(path, image, name)
        if ir_rgb != "luma" or (name and not palettes.brightens(name)):
            raise ImageError(
                f"{path}: an infrared image with three channels that differ by up to "
                f"{spread:.0f} levels looks like {palettes.describe(name)}"
            )
    return luma8(image).astype(np.float32) / np.float32(255)


def read_vi(
    path: Path | str,
    *,
    vi_range: Range | None = None,
    frame: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Array:
    """Read a visible image as RGB, (H, W, 3), float32 in [0, 1]; grey gets three equal channels.

    Arguments and errors are those of `read_ir`.
    """
    image = levels.scale(path, decode(path, frame, max_pixels), vi_range, "vi")
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image


def read_luma8(path: Path | str) -> Array:
    """Read any image as what the metrics see: (H, W), uint8 luma, rounded half up."""
    image = levels.scale(path, decode(path), None, "ir")
    return luma8(image) if image.ndim == 3 else np.rint(image * 255).astype(np.uint8)


def pixel_sha256(path: Path | str) -> str:
    """sha256 of depth, shape and stored levels of an image, whatever file format holds them.

    What is read alike is hashed alike: lossless copies, a palette and its colours, an orientation
    and the image turned, grey and three equal channels. Raises ImageError as `read_ir`.
    """
    stored = decode(path)
    if stored.ndim == 3 and (stored == stored[:, :, :1]).all():
        stored = stored[:, :, 0]
    stored = np.ascontiguousarray(stored, stored.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{stored.dtype.str}{stored.shape}".encode())
    digest.update(stored)
    return digest.hexdigest()


def is_grey(vi: Array) -> bool:
    """Whether an RGB image (H, W, 3) in [0, 1] has no colour, to 2 of 255 levels."""
    return bool(np.ptp(vi, axis=2).max() * 255 <= GREY_TOLERANCE + 0.5)


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


def aspect(ir: tuple[int, int], vi: tuple[int, int]) -> str:
    """What resizing between two (height, width) distorts by more than 2 %, or an empty string."""
    stretch = (vi[1] / vi[0]) / (ir[1] / ir[0])
    if abs(stretch - 1) <= MAX_STRETCH + 1e-9:
        return ""
    return (
        f"infrared {ir[1]}×{ir[0]} and visible {vi[1]}×{vi[0]} have other proportions: resizing "
        f"stretches the infrared image by {stretch - 1:+.0%} in width; do both show the same scene?"
    )


def check_target(path: Path | str) -> Path:
    """The path, if its suffix names a format in which `save_image` loses nothing that counts.

    Raises:
        ImageError: it does not.
    """
    path = Path(path)
    if path.suffix.lower() not in set(SUFFIXES) - {".gif"}:
        raise ImageError(
            f"{path}: cannot write {path.suffix or 'a file without suffix'!r}; "
            f"one of {', '.join(SUFFIXES)} but .gif, which holds 256 colours"
        )
    return path


def save_image(path: Path | str, image: Array, *, like: Path | str | None = None) -> Path:
    """Write an image: clip, round half to even, 8 bit; the file appears whole or not at all.

    PNG, TIFF, BMP and WebP are lossless; JPEG is written with quality 95 and full colour.

    Args:
        path: target; its suffix decides the format. Missing folders are made.
        image: (H, W) or (H, W, 3), float in [0, 1] or uint8.
        like: image file whose EXIF (place, time, camera; not its orientation, which is applied,
            and not its thumbnail) and colour profile are carried over.

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
    kind = Image.registered_extensions()[path.suffix.lower()]
    options = QUALITY.get(kind, {}) | (describe(like, image.ndim == 3) if like else {})
    try:
        Image.fromarray(image).save(encoded, kind, **options)
    except (OSError, ValueError) as error:
        height, width = image.shape[:2]
        raise ImageError(
            f"{path}: {kind} cannot hold this image of {width}×{height} pixels ({error}); use .png"
        ) from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"{path.parent}: cannot be made ({error.strerror})") from error
    # hidden, so that no listing takes what a kill leaves for an image; as short as any name
    write_atomically(
        path, encoded.getvalue(), path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    )
    return path
