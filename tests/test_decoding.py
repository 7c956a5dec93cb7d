"""More than 8 bits, in however many channels, and images that stand on their side."""

import importlib
import struct

import numpy as np
import pytest
import tifffile
from image_files import (
    BIG_ENDIAN,
    DEEP,
    FLIPS,
    LEVELS,
    ORIENTATION,
    RAMP,
    UPRIGHT,
    deep_png,
    levels,
    png,
    refuses,
    tiff,
    turned,
)
from PIL import Image

from fusionlib.images import image_size, read_ir, read_luma8, read_vi
from fusionlib.levels import LevelsWarning


@pytest.mark.parametrize(
    "name, mode, image",
    [
        ("a.png", "I;16", LEVELS.astype("<u2")),
        ("a.tif", "I;16", LEVELS.astype("<u2")),
        ("a.tif", "I;16B", BIG_ENDIAN),
        ("a.tif", "I", LEVELS.astype("i4")),
    ],
)
def test_r06_sixteen_bit_ir_is_scaled_not_clipped(put, name, mode, image):
    path = put(name, image)
    with Image.open(path) as stored:
        assert stored.mode == mode
    assert np.abs(read_ir(path) - LEVELS / 65_535).max() < 1e-7
    assert np.abs(read_vi(path) - LEVELS[:, :, None] / 65_535).max() < 1e-7
    assert read_luma8(path).tolist() == [[0, 1, 1], [4, 156, 255]]  # level / 257
    with pytest.warns(LevelsWarning):
        ranged = read_ir(path, ir_range=(256, 40_000))
    assert ranged.dtype == np.float32
    assert np.abs(ranged - [[0, 0, 0], [744 / 39_744, 1, 1]]).max() < 1e-7
    for bad in ((5, 5), (9, 3), (0, np.nan), (-np.inf, 1)):
        refuses(path, "ir_range", "--ir-invert", ir_range=bad)
        refuses(path, "vi_range", read=read_vi, vi_range=bad)


OPAQUE = np.full(LEVELS.shape, 65_535)
COLOUR = np.dstack([LEVELS] * 3).astype("u2")
DEEP_KINDS = {
    "rgb.png": deep_png(COLOUR),
    "la.png": deep_png(np.dstack([LEVELS, OPAQUE])),
    "rgba.png": deep_png(np.dstack([LEVELS] * 3 + [OPAQUE])),
    "rgb.tif": tiff(COLOUR, photometric="rgb"),
    "zip.tif": tiff(COLOUR.astype(">u2"), photometric="rgb", compression="zlib"),
    "planes.tif": tiff(
        np.stack([LEVELS] * 3).astype("u2"), photometric="rgb", planarconfig="separate"
    ),
    "la.tif": tiff(
        np.dstack([LEVELS, OPAQUE]).astype("u2"),
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    ),
    "unsigned.tif": tiff(LEVELS.astype("u4")),
    "long.tif": tiff(LEVELS.astype("i8")),
    "big.tif": tiff(LEVELS.astype("u2"), bigtiff=True),
    "double.tif": tiff(LEVELS / 65_535),
}


@pytest.mark.parametrize("name", DEEP_KINDS)
def test_r64_all_bits_are_read_whatever_the_channels(put, name):
    path = put(name, DEEP_KINDS[name])  # 256 and 1000 would both be black in 8 bits
    assert np.abs(read_ir(path) - LEVELS / 65_535).max() < 1e-7
    assert np.abs(read_vi(path) - LEVELS[:, :, None] / 65_535).max() < 1e-7
    assert image_size(path) == LEVELS.shape


@pytest.mark.filterwarnings("ignore::fusionlib.levels.LevelsWarning")
def test_r64_floats_and_signs_of_every_width_are_kept(put):
    for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8"):
        path = put("a.tif", tiff(np.array([[-20, 0], [4, 60]], kind)))
        values = read_ir(path, ir_range=(-20, 60))
        assert np.abs(values - [[0, 0.25], [0.3, 1]]).max() < 1e-7
    wrapped = put("a.tif", tiff(np.array([[0, 2**32 - 1]], "u4")))
    assert read_ir(wrapped, ir_range=(0, 2**32 - 1)).tolist() == [[0, 1]]
    pages = put("a.tif", tiff(np.array([[[0.0, 1]], [[0.25, 0.75]]])))
    refuses(pages, "2 frames", "--frame")
    assert read_ir(pages, frame=1).tolist() == [[0.25, 0.75]]


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_r12_exif_orientation_is_applied(put, orientation):
    exif, expected = turned(orientation), np.arange(24).reshape(4, 6)
    for flip in UPRIGHT[orientation]:  # the EXIF standard: which way stored rows and columns run
        expected = FLIPS[flip](expected)
    for name in ("a.png", "a.tif"):
        for stored in (RAMP, DEEP):
            path = put(name, stored, exif=exif)
            assert levels(read_ir(path)) == (expected * 10).tolist()
            assert image_size(path) == expected.shape
    colour = np.random.default_rng(1).integers(0, 65_536, (4, 6, 3))
    chunk = (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    rows = [row.astype(">u2").tobytes() for row in colour]
    tags = [(ORIENTATION, 3, 1, orientation, True)]
    for name, content in (
        ("a.tif", tiff(colour.astype("u2"), photometric="rgb", extratags=tags)),
        ("a.png", png(6, 4, 16, 2, rows, before=chunk)),
    ):
        image = read_vi(put(name, content))
        assert np.abs(image - colour.reshape(24, 3)[expected] / 65_535).max() < 1e-7
        assert image_size(put(name, content)) == image.shape[:2]
    column = put("late.png", png(3, 1, 8, 0, [b"\1\2\3"], after=chunk))  # EXIF after the pixels
    assert (read_ir(column).shape == (3, 1)) == (orientation in (5, 6, 7, 8))


def test_r64_what_cannot_be_read_at_its_depth_is_refused(put):
    levels = LEVELS.astype("u2")
    refuses(put("a.tif", tiff(levels, photometric="miniswhite")), "MINISWHITE", "16 bits")
    refuses(put("a.tif", tiff(levels * 1j)), "complex")
    refuses(put("a.tif", tiff(np.dstack([levels] * 5), planarconfig="contig")), "one to four")
    compression = struct.pack("<HHII", 259, 3, 1, 1)
    file = DEEP_KINDS["rgb.tif"]
    assert compression in file
    lzw = put("lzw.tif", file.replace(compression, struct.pack("<HHII", 259, 3, 1, 5)))
    if importlib.util.find_spec("imagecodecs") is None:
        refuses(lzw, "LZW", "imagecodecs")


def test_r16_the_size_of_a_file_that_only_tifffile_reads_is_told_without_decoding(put, monkeypatch):
    path = put("deep.tif", np.zeros((5, 7)))  # 64-bit floats
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda page: pytest.fail("decoded"))
    assert image_size(path) == (5, 7)
