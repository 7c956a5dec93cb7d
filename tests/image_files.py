"""Image files written byte by byte, and what reading them must say."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from fusionlib.errors import ImageError
from fusionlib.images import read_ir

ORIENTATION = 0x0112
LEVELS = np.array([[0, 255, 256], [1000, 40_000, 65_535]])
BIG_ENDIAN = Image.frombytes("I;16B", (3, 2), LEVELS.astype(">u2").tobytes())
RAMP = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
DEEP = RAMP.astype("<u2") * 257
COLOURS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def encode(image, kind, **options):
    """The bytes of a file that holds this image."""
    if kind == "TIFF" and isinstance(image, np.ndarray) and not options:
        return tiff(image)  # any type
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def png(width, height, depth, colour, rows, before=(), after=()):
    """A PNG chunk by chunk, for what Pillow does not write; `rows` None leaves the pixels out."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = () if rows is None else (b"IDAT", zlib.compress(b"\0" + b"\0".join(rows)))
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in filter(None, ((b"IHDR", header), before, pixels, after, (b"IEND", b""))):
        data += struct.pack(">I", len(body)) + name + body
        data += struct.pack(">I", zlib.crc32(name + body))
    return data


def deep_png(channels):
    """16-bit RGB, grey with alpha or RGB with alpha, which Pillow neither writes nor reads."""
    *_, count = channels.shape
    rows = [row.astype(">u2").tobytes() for row in channels]
    return png(*channels.shape[1::-1], 16, {2: 4, 3: 2, 4: 6}[count], rows)


def tiff(image, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, image, **options)
    return file.getvalue()


def levels(image):
    return np.rint(image.astype(float) * 255).tolist()


def refuses(path, *words, read=read_ir, **options):
    """Reading raises an ImageError that names the file and says these words."""
    with pytest.raises(ImageError) as caught:
        read(path, **options)
    for word in (path.name, *words):
        assert word in str(caught.value)


FLIPS = {"c": np.fliplr, "r": np.flipud, "t": np.transpose}
UPRIGHT = {1: "", 2: "c", 3: "rc", 4: "r", 5: "t", 6: "rt", 7: "rct", 8: "tr", 9: ""}  # 9: none


def turned(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif
