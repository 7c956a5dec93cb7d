import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import EpsImagePlugin, Image
from skimage.color import rgb2ycbcr

from fusionlib import images
from fusionlib.errors import FusionError, ImageError
from fusionlib.images import (
    image_size,
    is_grey,
    luma,
    luma8,
    read_ir,
    read_luma8,
    read_vi,
    replace_luma,
    save_image,
)

ORIENTATION = 0x0112
RAMP = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
COLOURS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def encode(image, kind, **options):
    """The bytes of a file that holds this image."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, kind, **options
    )
    return file.getvalue()


def png(width, height, depth, colour, rows, before=b"", after=b""):
    """A PNG chunk by chunk, for what Pillow does not write; `rows` None leaves the pixels out."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = b"" if rows is None else chunk(b"IDAT", zlib.compress(b"\0" + b"\0".join(rows)))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(*before) if before else b"")
        + pixels
        + (chunk(*after) if after else b"")
        + chunk(b"IEND", b"")
    )


def turned(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


@pytest.fixture(autouse=True)
def nothing_noted_yet():
    images._note_conversion.cache_clear()


@pytest.fixture
def put(tmp_path):
    """Write bytes, or an image in the format of the suffix, and return the path."""

    def write(name, content, **options):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            kind = {".jpg": "JPEG", ".tif": "TIFF"}.get(path.suffix, path.suffix[1:].upper())
            path.write_bytes(encode(content, kind, **options))
        return path

    return write


def refuses(path, *words, read=read_ir, **options):
    """Reading raises an ImageError that names the file and says these words."""
    with pytest.raises(ImageError) as caught:
        read(path, **options)
    for word in (path.name, *words):
        assert word in str(caught.value)


# Reading what is in order


@pytest.mark.filterwarnings("ignore:images of mode P")  # GIF
@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.gif", "A.PNG"])
def test_grey_file_gives_its_levels(put, name):
    path = put(name, RAMP)
    image = read_ir(path)
    assert image.dtype == np.float32
    assert (np.rint(image.astype(float) * 255) == RAMP).all()
    assert np.abs(image - RAMP / 255).max() < 1e-7
    assert (read_luma8(path) == RAMP).all()
    assert image_size(path) == RAMP.shape


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_colour_file_gives_its_levels(put, name):
    path = put(name, COLOURS)
    image = read_vi(path)
    assert image.dtype == np.float32
    assert np.abs(image - COLOURS / 255).max() < 1e-7
    assert (read_luma8(path) == luma8(image)).all()


def test_lossy_formats_read_within_their_loss(put):
    smooth = np.add.outer(np.arange(0, 128, 2), np.arange(0, 96, 2)).astype(np.uint8)
    for name in ("a.jpg", "a.webp"):
        assert np.abs(read_luma8(put(name, smooth, quality=95)).astype(int) - smooth).max() <= 8


def test_size_comes_from_the_header_alone(put):
    noise = np.random.default_rng(1).integers(0, 256, (31, 47), dtype=np.uint8)
    for kind, name in (("PNG", "a.png"), ("JPEG", "a.jpg")):
        data = encode(noise, kind)
        path = put(name, data[: len(data) * 3 // 4])  # the pixels are cut off
        assert image_size(path) == (31, 47)
        refuses(path)


def test_size_of_a_large_image_is_told_without_a_warning(put):
    path = put("large.png", png(10_000, 10_000, 8, 0, None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(path) == (10_000, 10_000)


# Row 4: damaged files


@pytest.mark.parametrize("read", [read_ir, read_vi, read_luma8])
@pytest.mark.parametrize("kind, name", [("PNG", "cut.png"), ("JPEG", "cut.jpg")])
def test_r04_truncated_file_is_refused(put, kind, name, read):
    noise = np.random.default_rng(2).integers(0, 256, (32, 32), dtype=np.uint8)
    data = encode(noise, kind)
    for share in (0.1, 0.5, 0.9):
        refuses(put(name, data[: int(len(data) * share)]), "damaged", read=read)


@pytest.mark.parametrize("read", [read_ir, read_vi, read_luma8, image_size])
@pytest.mark.parametrize("content", [b"", b"name,split\na,train\n", b"<html>404</html>" * 99])
def test_r04_empty_or_text_file_is_refused(put, read, content):
    refuses(put("fake.png", content), "cannot be read as an image", read=read)


@pytest.mark.parametrize("read", [read_ir, image_size])
def test_r04_postscript_named_png_never_reaches_ghostscript(put, read, monkeypatch):
    called = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: called.append(a))
    refuses(put("page.png", encode(RAMP, "EPS")), read=read)
    assert not called


@pytest.mark.parametrize("read", [read_ir, read_vi, read_luma8, image_size])
def test_r04_what_is_no_file_is_refused(tmp_path, read):
    (tmp_path / "folder.png").mkdir()
    refuses(tmp_path / "folder.png", read=read)
    refuses(tmp_path / "missing.png", read=read)
    refuses(tmp_path / ("long" * 99 + ".png"), read=read)


def test_r04_flipped_bit_in_the_pixels_of_a_png_is_refused(put):
    data = bytearray(encode(RAMP, "PNG"))
    start = data.index(b"IDAT") + 4
    end = data.index(b"IEND") - 8
    for place in range(start + 2, end):  # zlib's own checksum included
        for cut in (None, end):
            flipped = data.copy()
            flipped[place] ^= 16
            refuses(put("flipped.png", bytes(flipped[:cut])), "damaged")


def test_r04_png_with_fewer_rows_than_it_declares_is_refused(put):
    rows = [bytes([9, 8, 7])] * 4
    assert read_ir(put("whole.png", png(3, 4, 8, 0, rows))).shape == (4, 3)
    refuses(put("short.png", png(3, 5, 8, 0, rows)), "damaged, it has 16 of 20 bytes")
    refuses(put("narrow.png", png(4, 4, 8, 0, rows)), "damaged")


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 5), (17, 9), (64, 33)])
@pytest.mark.parametrize("mode", ["L", "RGB", "1", "I;16"])
def test_r04_whole_pngs_of_any_size_are_read(put, mode, size):
    assert image_size(path := put("a.png", Image.new(mode, size))) == size[::-1]
    assert read_vi(path).shape == (*size[::-1], 3)


def test_r04_interlaced_png_is_read_whole_or_refused(put):
    # passes of a 3×2 image: pixel (0, 0); none; none; (2, 0); none; (1, 0); row 1
    passes = [bytes([10]), bytes([30]), bytes([20]), bytes([40, 50, 60])]
    data = bytearray(png(3, 2, 8, 0, passes))
    data[28] = 1  # interlaced
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    image = read_ir(put("adam7.png", bytes(data)))
    assert np.rint(image * 255).tolist() == [[10, 20, 30], [40, 50, 60]]
    data[20:24] = struct.pack(">I", 3)  # rows
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    refuses(put("short.png", bytes(data)), "damaged")


def test_r04_tiff_without_strips_for_all_rows_is_refused(put):
    data = bytearray(encode(RAMP, "TIFF"))
    rows = data.index(struct.pack("<HHI", 0x101, 4, 1)) + 8
    data[rows : rows + 4] = struct.pack("<I", 9)
    refuses(put("short.tif", bytes(data)), "damaged, it has no pixels for some of its 9 rows")


SMALL = np.add.outer(np.arange(17) * 7, np.arange(24) * 5).astype(np.uint8)
WHOLE = {
    "png": encode(SMALL, "PNG"),
    "jpg": encode(SMALL, "JPEG"),
    "tif": encode(SMALL, "TIFF"),
    "lzw.tif": encode(SMALL, "TIFF", compression="tiff_lzw"),
    "rgb.webp": encode(np.dstack([SMALL] * 3), "WEBP"),
}


@pytest.fixture(scope="module")
def fuzz_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_r04_random_damage_gives_an_image_or_an_image_error(fuzz_folder, kind, data):
    content = bytearray(WHOLE[kind])
    for bit in data.draw(st.lists(st.integers(0, len(content) * 8 - 1), max_size=6), "flips"):
        content[bit // 8] ^= 1 << bit % 8
    del content[data.draw(st.none() | st.integers(0, len(content)), "cut") :]
    path = fuzz_folder / f"damaged.{kind}"
    path.write_bytes(content)
    for read in (read_ir, read_vi):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a flip may turn it into 1-bit
            try:
                image = read(path, max_pixels=100_000)
            except ImageError as error:
                assert path.name in str(error)
                continue
        assert image.dtype == np.float32
        assert image.shape[:2] == image_size(path)
        assert image.ndim == (2 if read is read_ir else 3)
        assert image.min() >= 0 and image.max() <= 1
        if kind == "png":  # its checksums find every flip
            assert (np.rint(image.T * 255) == SMALL.T).all()


# Row 18: what is no plain file


@pytest.mark.parametrize("read", [read_ir, read_vi, read_luma8, image_size])
def test_r18_pipe_named_png_is_refused_and_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.png")
    refuses(tmp_path / "pipe.png", "a pipe, not an image", read=read)


@pytest.mark.parametrize("read", [read_ir, read_vi, read_luma8, image_size])
def test_r18_unreadable_file_is_named(put, read, monkeypatch):
    path = put("secret.png", RAMP)

    def forbidden(*args, **options):  # chmod does not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(io, "open", forbidden)
    monkeypatch.setattr("builtins.open", forbidden)
    refuses(path, "Permission denied", read=read)


# Row 6: 16 bit

LEVELS = np.array([[0, 255, 256], [1000, 40_000, 65_535]])
SIXTEEN = {
    "I;16 png": ("a.png", "I;16", encode(LEVELS.astype("<u2"), "PNG")),
    "I;16 tif": ("a.tif", "I;16", encode(LEVELS.astype("<u2"), "TIFF")),
    "I;16B tif": (
        "a.tif",
        "I;16B",
        encode(Image.frombytes("I;16B", (3, 2), LEVELS.astype(">u2").tobytes()), "TIFF"),
    ),
    "I tif": ("a.tif", "I", encode(LEVELS.astype("i4"), "TIFF")),
}


@pytest.mark.parametrize("case", SIXTEEN)
def test_r06_sixteen_bit_ir_is_scaled_not_clipped(put, case):
    name, mode, data = SIXTEEN[case]
    path = put(name, data)
    with Image.open(path) as stored:
        assert stored.mode == mode
    assert np.abs(read_ir(path) - LEVELS / 65_535).max() < 1e-7
    assert np.abs(read_vi(path) - LEVELS[:, :, None] / 65_535).max() < 1e-7
    assert read_luma8(path).tolist() == [[0, 1, 1], [4, 156, 255]]  # level / 257


@pytest.mark.parametrize("case", SIXTEEN)
def test_r06_explicit_range_is_used_and_clips(put, case):
    name, _, data = SIXTEEN[case]
    image = read_ir(put(name, data), ir_range=(256, 40_000))
    assert image.dtype == np.float32
    expected = [[0, 0, 0], [744 / 39_744, 1, 1]]
    assert np.abs(image - expected).max() < 1e-7


@pytest.mark.parametrize("bad", [(5, 5), (9, 3), (0, np.nan), (-np.inf, 1)])
def test_r06_impossible_range_is_refused(put, bad):
    with pytest.raises(ImageError, match="ir_range"):
        read_ir(put("a.png", LEVELS.astype("<u2")), ir_range=bad)


@pytest.mark.parametrize("levels", [[[0, 70_000]], [[-1, 5]]])
def test_r06_mode_i_beyond_sixteen_bits_needs_a_range(put, levels):
    path = put("a.tif", np.array(levels, "i4"))
    refuses(path, "ir_range", str(levels[0][0]))
    assert read_ir(path, ir_range=(-1, 70_000)).shape == (1, 2)


# Row 7: float


def test_r07_float_within_zero_and_one_is_taken_as_it_is(put):
    values = np.array([[0, 0.25, 1 / 3], [0.5, 0.999, 1]], np.float32)
    assert (read_ir(put("a.tif", values)) == values).all()


@pytest.mark.parametrize("values", [[[-0.01, 0.5]], [[0.5, 1.01]], [[20.5, 31.0]]])
def test_r07_float_outside_zero_and_one_needs_a_range(put, values):
    path = put("a.tif", np.array(values, np.float32))
    refuses(path, "ir_range")
    low, high = values[0]
    assert np.abs(read_ir(path, ir_range=(low, high)) - [[0, 1]]).max() < 1e-6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ir_range", [None, (0, 1)])
def test_r07_not_finite_pixels_are_counted_and_refused(put, bad, ir_range):
    values = np.full((4, 5), 0.5, np.float32)
    values[[0, 1, 3], [0, 2, 4]] = bad
    refuses(put("a.tif", values), "3 pixels", ir_range=ir_range)


# Row 8: palette and 1-bit


def palette(**options):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 200, 0, 10, 20, 30])
    return encode(image, "PNG", **options)


def test_r08_palette_is_applied(put):
    with pytest.warns(UserWarning, match="mode P"):
        image = read_vi(put("a.png", palette()))
    red, green, dark = [255, 0, 0], [0, 200, 0], [10, 20, 30]
    assert np.rint(image * 255).tolist() == [[red, green], [dark, green]]


def test_r08_grey_palette_and_one_bit_are_infrared(put):
    image = Image.fromarray(np.array([[0, 1, 1]], np.uint8)).convert("P")
    image.putpalette([9, 9, 9, 77, 77, 77])
    with pytest.warns(UserWarning, match="mode P"):
        assert np.rint(read_ir(put("p.png", image)) * 255).tolist() == [[9, 77, 77]]
    bits = Image.fromarray(np.array([[0, 255, 255]], np.uint8)).convert("1")
    with pytest.warns(UserWarning, match="mode 1"):
        for name in ("a.png", "a.tif"):
            assert read_ir(put(name, bits)).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("action", ["default", "always"])
def test_r08_conversion_is_noted_once(put, action):
    path = put("a.png", palette())
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter(action)
        for _ in range(3):
            read_vi(path)
    assert [str(note.message) for note in noted] == ["images of mode P are converted through RGB"]
    assert noted[0].filename == __file__


def test_r08_note_turned_into_an_error_stays_the_note(put):
    path = put("a.png", palette())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="mode P"):
            read_vi(path)


# Row 9: alpha


def with_alpha(mode, lowest):
    alpha = np.full(RAMP.shape, 255, np.uint8)
    alpha[1, 2] = lowest
    planes = [RAMP] if mode == "LA" else [RAMP] * 3
    return Image.merge(mode, [Image.fromarray(plane) for plane in (*planes, alpha)])


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_r09_alpha_is_dropped_only_if_opaque(put, mode, name):
    image = read_ir(put(name, with_alpha(mode, 255)))
    assert (np.rint(image * 255) == RAMP).all()
    for lowest in (254, 0):
        refuses(put(name, with_alpha(mode, lowest)), "transparent", str(lowest))


@pytest.mark.parametrize(
    "image, unused, used",
    [
        (Image.fromarray(RAMP), 5, 10),
        (Image.fromarray(np.dstack([RAMP] * 3)), (10, 10, 11), (10, 10, 10)),
        (Image.fromarray(RAMP.astype("<u2") * 257), 2571, 2570),
    ],
    ids=["L", "RGB", "I;16"],
)
def test_r09_transparent_level_is_refused_where_a_pixel_has_it(put, image, unused, used):
    whole = read_ir(put("whole.png", image))
    assert (read_ir(put("unused.png", image, transparency=unused)) == whole).all()
    refuses(put("used.png", image, transparency=used), "transparent")


def test_r09_transparent_colour_of_sixteen_bits_is_found(put):
    row = struct.pack(">6H", 0, 1000, 65_535, 9000, 9000, 9000)
    for key, opaque in (((0, 1000, 65_535), False), ((0, 30_000, 65_535), True)):
        data = png(2, 1, 16, 2, [row], before=(b"tRNS", struct.pack(">3H", *key)))
        path = put("deep.png", data)
        if opaque:
            assert np.rint(read_vi(path) * 255).tolist() == [[[0, 3, 255], [35, 35, 35]]]
        else:
            refuses(path, "transparent", read=read_vi)


@pytest.mark.filterwarnings("ignore:images of mode P")
def test_r09_palette_with_transparency(put):
    plain = read_vi(put("plain.png", palette()))
    assert (read_vi(put("opaque.png", palette(transparency=b"\xff\xff\xff"))) == plain).all()
    refuses(put("half.png", palette(transparency=b"\xff\x80")), "128", read=read_vi)
    refuses(put("index.png", palette(transparency=1)), "transparent", read=read_vi)
    image = Image.fromarray(RAMP)
    refuses(put("a.gif", image, transparency=10), "transparent")
    assert (np.rint(read_ir(put("b.gif", image, transparency=255)) * 255) == RAMP).all()


# Row 10: other colour modes


@pytest.mark.parametrize(
    "mode, name", [("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("LAB", "a.tif"), ("YCbCr", "a.tif")]
)
@pytest.mark.parametrize("read", [read_ir, read_vi, read_luma8])
def test_r10_other_colour_modes_are_refused_by_name(put, mode, name, read):
    raw = bytes(range(4 * 4 * len(Image.new(mode, (1, 1)).getbands())))
    refuses(put(name, Image.frombytes(mode, (4, 4), raw)), mode, read=read)


# Row 11: several frames


@pytest.mark.filterwarnings("ignore:images of mode P")
@pytest.mark.parametrize(
    "name, options",
    [("a.gif", {}), ("a.png", {}), ("a.webp", {"lossless": True}), ("a.tif", {})],
)
def test_r11_one_of_several_frames_must_be_chosen(put, name, options):
    levels = (10, 200, 90)
    first, *rest = (Image.new("L", (5, 4), level) for level in levels)
    path = put(name, first, save_all=True, append_images=rest, **options)
    refuses(path, "3 frames", "frame=0…2")
    refuses(path, "3 frames", read=read_vi)
    refuses(path, "3 frames", read=read_luma8)
    for frame, level in enumerate(levels):
        image = read_ir(path, frame=frame)
        assert image.shape == (4, 5)
        assert (np.rint(image * 255) == level).all()
        assert (read_luma8(path, frame=frame) == level).all()
        assert (np.rint(read_vi(path, frame=frame) * 255) == level).all()
    for frame in (-1, 3):
        refuses(path, f"frame {frame}", frame=frame)


def test_r11_only_frame_may_be_named(put):
    path = put("a.png", RAMP)
    assert (read_ir(path, frame=0) == read_ir(path)).all()
    refuses(path, "frame 1 of 1", frame=1)


# Row 12: EXIF orientation

UPRIGHT = {  # the EXIF standard: which way the stored rows and columns run
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: stored[::-1].T,
    7: lambda stored: stored[::-1, ::-1].T,
    8: lambda stored: stored.T[::-1],
    9: lambda stored: stored,  # no such orientation
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("levels", [RAMP, RAMP.astype("<u2") * 257], ids=["8 bit", "16 bit"])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_r12_exif_orientation_is_applied(put, name, levels, orientation):
    path = put(name, levels, exif=turned(orientation))
    expected = UPRIGHT[orientation](RAMP)
    assert np.rint(read_ir(path) * 255).tolist() == expected.tolist()
    assert image_size(path) == expected.shape


def test_r12_orientation_after_the_pixels_is_applied(put):
    exif = turned(6).tobytes().removeprefix(b"Exif\0\0")
    path = put("late.png", png(3, 1, 8, 0, [b"\1\2\3"], after=(b"eXIf", exif)))
    assert np.rint(read_ir(path) * 255).tolist() == [[1], [2], [3]]


# Row 13: infrared with three channels


def channels(*offsets):
    base = RAMP.astype(int) + 10
    return np.dstack([base + offset for offset in offsets]).astype(np.uint8)


def test_r13_three_equal_channels_are_collapsed(put):
    assert (np.rint(read_ir(put("a.png", channels(0, 0, 0))) * 255) == RAMP + 10).all()


@pytest.mark.parametrize("offsets, level", [((0, 2, 0), 11), ((2, 0, 0), 11), ((0, 0, 2), 10)])
def test_r13_two_levels_apart_are_grey(put, offsets, level):
    image = np.rint(read_ir(put("a.png", channels(*offsets))) * 255)
    assert (image == RAMP + level).all()  # e.g. 10 + 2 × 0.587 = 11.17


def test_r13_pseudo_colour_is_refused_unless_luma_is_asked_for(put):
    refuses(put("three.png", channels(0, 3, 0)), "3 levels", 'ir_rgb="luma"')
    image = channels(0, 0, 0)
    image[2, 3] = 50, 50, 90  # one pixel is enough
    refuses(put("pixel.png", image), "40 levels")
    path = put("colour.png", COLOURS)
    refuses(path, "pseudo-colour")
    pillow = np.asarray(Image.fromarray(COLOURS).convert("L"), int)
    assert np.abs(np.rint(read_ir(path, ir_rgb="luma") * 255) - pillow).max() <= 1


# Row 14: grey visible


@pytest.mark.parametrize("levels", [RAMP, RAMP.astype("<u2") * 257], ids=["8 bit", "16 bit"])
def test_r14_grey_visible_gets_three_equal_channels(put, levels):
    image = read_vi(put("a.png", levels))
    assert image.shape == (*RAMP.shape, 3)
    assert np.abs(image - RAMP[:, :, None] / 255).max() < 1e-7
    assert is_grey(image)


@pytest.mark.parametrize(
    "offsets, grey", [((0, 0, 0), True), ((2, 0, 1), True), ((0, 3, 0), False)]
)
def test_r14_grey_means_within_two_levels(put, offsets, grey):
    assert is_grey(read_vi(put("a.png", channels(*offsets)))) is grey


def test_r14_one_coloured_pixel_is_colour():
    image = np.full((5, 7, 3), 0.5, np.float32)
    assert is_grey(image)
    image[4, 6, 0] = 0.6
    assert not is_grey(image)


# Row 15: nothing is stretched


@pytest.mark.parametrize("value, level", [(0, 0), (0.4, 102), (1, 255)])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 3)])
def test_r15_constant_image_is_saved_unstretched(tmp_path, value, level, shape):
    path = save_image(tmp_path / "a.png", np.full(shape, value, np.float32))
    assert (np.asarray(Image.open(path)) == level).all()
    assert (np.rint(read_vi(path) * 255) == level).all()


def test_r15_low_contrast_stays_low(tmp_path):
    levels = np.array([[100, 101], [103, 110]], np.uint8)
    for image in (levels, levels / 255, (levels / 255).astype(np.float32)):
        path = save_image(tmp_path / "a.png", image)
        assert (np.asarray(Image.open(path)) == levels).all()
        assert np.abs(read_ir(path) - levels / 255).max() < 1e-7


# Row 16: large images


def test_r16_max_pixels_is_the_largest_number_accepted(put):
    path = put("a.png", np.zeros((10, 12), np.uint8))
    assert read_ir(path, max_pixels=120).shape == (10, 12)
    refuses(path, "12×10", "max_pixels=119", max_pixels=119)
    refuses(path, "12×10", "max_pixels=119", max_pixels=119, read=read_vi)


@pytest.mark.parametrize("read", [read_ir, read_vi, read_luma8])
def test_r16_too_many_pixels_are_refused_before_decoding(put, read):
    # the file has no pixels: decoding it would end in another error
    refuses(put("big.png", png(8001, 8000, 8, 0, None)), "max_pixels=64,000,000", read=read)
    refuses(put("edge.png", png(8000, 8000, 8, 0, None)), "damaged", read=read)


def test_r16_bomb_is_refused_whatever_max_pixels_is(put):
    path = put("bomb.png", png(50_000, 50_000, 1, 0, None))
    refuses(path, "bomb", read=image_size)
    refuses(path, "bomb", "Scale it down")
    refuses(path, "bomb", "Scale it down", max_pixels=10**10)


def test_r16_every_page_is_measured(put):
    small, large = Image.new("L", (3, 2)), Image.new("L", (30, 20))
    path = put("a.tif", small, save_all=True, append_images=[large])
    assert read_ir(path, frame=0, max_pixels=100).shape == (2, 3)
    refuses(path, "30×20", "max_pixels=100", frame=1, max_pixels=100)


# Row 19: names

NAMES = [
    "two words.png",
    "-x.png",
    "--help.png",
    "Straße é.png",
    "e\u0301.png",
    "夜.png",
    "a.b.png",
]


@pytest.mark.parametrize("name", [*NAMES, "n" * 251 + ".png"], ids=[*NAMES, "255 bytes"])
def test_r19_unusual_names_are_written_and_read(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    save_image(name, RAMP)
    assert os.listdir() == [name]
    assert (read_luma8(name) == RAMP).all()
    assert image_size(name) == RAMP.shape


# Luma and chroma

any_rgb = arrays(np.uint8, (3, 5, 3))


def test_luma_is_that_of_pillow():
    rgb = np.random.default_rng(3).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    ours = luma8(rgb / 255).astype(int)
    pillow = np.asarray(Image.fromarray(rgb).convert("L"), int)
    assert np.abs(ours - pillow).max() <= 1
    assert (ours != pillow).mean() < 0.01


def test_luma_of_grey_is_exact():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    for dtype in (np.float32, np.float64):
        assert (luma8((grey / 255).astype(dtype)) == grey[:, :, 0]).all()


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(any_rgb)
def test_luma_is_rounded_half_up_from_the_exact_value(rgb):
    r, g, b = np.moveaxis(rgb.astype(int), 2, 0)
    thousandths = 299 * r + 587 * g + 114 * b
    assert (luma8((rgb / 255).astype(np.float32)) == (thousandths + 500) // 1000).all()
    exact = luma((rgb / 255).astype(np.float32))
    assert exact.dtype == np.float32
    assert np.abs(exact - thousandths / 255_000).max() < 1e-6


def test_luma_half_way_goes_up():
    r, g, b = np.mgrid[0:256:3, 0:256:3, 0:256]
    half = (299 * r + 587 * g + 114 * b) % 1000 == 500
    rgb = np.stack([r[half], g[half], b[half]], axis=1)[None]
    assert rgb.shape[1] > 1000
    expected = (rgb @ [299, 587, 114] + 500) // 1000
    assert (luma8((rgb / 255).astype(np.float32)) == expected).all()


@pytest.fixture
def mid_tones():
    """Colours and a new luma for which nothing leaves [0, 1]."""
    rng = np.random.default_rng(4)
    rgb = rng.uniform(0.3, 0.7, (40, 50, 3)).astype(np.float32)
    y = (luma(rgb) + rng.uniform(-0.3, 0.3, (40, 50))).astype(np.float32)
    return rgb, y


def test_replace_luma_keeps_chroma_and_sets_luma(mid_tones):
    rgb, y = mid_tones
    fused = replace_luma(rgb, y)
    assert fused.dtype == np.float32
    before, after = rgb2ycbcr(rgb.astype(float)), rgb2ycbcr(fused.astype(float))
    assert np.abs(after[:, :, 1:] - before[:, :, 1:]).max() < 1e-3  # of 224 levels
    assert np.abs((after[:, :, 0] - 16) / 219 - y).max() < 1e-5
    assert np.abs(after[:, :, 0] - before[:, :, 0]).max() > 50  # the luma did change


def test_replace_luma_keeps_chroma_in_the_saved_file(tmp_path, mid_tones):
    rgb, y = mid_tones
    rgb = np.rint(rgb * 255) / np.float32(255)
    path = save_image(tmp_path / "fused.png", replace_luma(rgb, y))
    before = Image.fromarray(np.rint(rgb * 255).astype(np.uint8)).convert("YCbCr")
    after = Image.open(path).convert("YCbCr")
    difference = np.asarray(after, int) - np.asarray(before, int)
    assert np.abs(difference[:, :, 1:]).max() <= 1
    assert np.abs(np.asarray(after, int)[:, :, 0] - y * 255).max() <= 1.5  # three roundings


def test_replace_luma_by_its_own_changes_nothing():
    rgb = (COLOURS / 255).astype(np.float32)
    assert np.abs(replace_luma(rgb, luma(rgb)) - rgb).max() < 1e-6


def test_replace_luma_stays_in_range():
    rgb = (COLOURS / 255).astype(np.float32)
    for value in (0, 1):
        fused = replace_luma(rgb, np.full(rgb.shape[:2], value, np.float32))
        assert fused.min() >= 0 and fused.max() <= 1
        assert (fused == value).any(axis=2).all()  # some channel of each pixel is clipped


# Saving


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_save_rounds_half_to_even_and_clips(tmp_path, dtype):
    values = {0.1: 26, 0.3: 76, 0.5: 128, 0.7: 178, 0.9: 230}  # 25.5, 76.5, 127.5, 178.5, 229.5
    values |= {-0.2: 0, 1.7: 255, 0: 0, 1: 255, 0.499 / 255: 0, 0.501 / 255: 1}
    path = save_image(tmp_path / "a.png", np.array([list(values)], dtype))
    assert np.asarray(Image.open(path)).tolist() == [list(values.values())]


@pytest.mark.parametrize("image", [RAMP, COLOURS], ids=["grey", "colour"])
@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.tif", "new/folders/a.tiff"])
def test_save_returns_the_path_of_the_levels(tmp_path, name, image):
    path = save_image(str(tmp_path / name), image)
    assert path == tmp_path / name
    assert (np.asarray(Image.open(path)) == image).all()
    assert os.listdir(path.parent) == [path.name]


def test_save_has_no_time_stamp(tmp_path):
    first, second = (save_image(tmp_path / name, COLOURS) for name in ("a.png", "b.png"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "name, image, word",
    [
        ("a.png", np.zeros(4), "shape"),
        ("a.png", np.zeros((4, 4, 4)), "shape"),
        ("a.png", np.zeros((1, 4, 4, 3)), "shape"),
        ("a.png", np.zeros((0, 4)), "shape"),
        ("a.png", np.array([[0.5, np.nan, np.inf]]), "2 values"),
        ("a.png", np.array([[3, 200]]), "int64"),
        ("a.png", np.array([[3, 200]], np.uint16), "uint16"),
        ("a.xyz", RAMP, "xyz"),
        ("a", RAMP, "suffix"),
    ],
)
def test_save_refuses_and_writes_nothing(tmp_path, name, image, word):
    with pytest.raises(ImageError, match=word):
        save_image(tmp_path / "new" / name, image)
    assert os.listdir(tmp_path) == []


def test_failing_encoder_leaves_the_old_file_and_nothing_else(tmp_path):
    path = save_image(tmp_path / "a.jpg", RAMP)
    old = path.read_bytes()
    with pytest.raises(ImageError, match=r"a\.jpg: cannot save shape \(1, 70000\)"):
        save_image(path, np.zeros((1, 70_000)))  # JPEG ends at 65535
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.jpg"]


def test_r40_full_disk_leaves_the_old_image_and_nothing_else(tmp_path, monkeypatch):
    path = save_image(tmp_path / "a.png", RAMP)
    old = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FusionError, match=r"a\.png cannot be written .*No space.* needs \d+ bytes"):
        save_image(path, RAMP)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.png"]


def test_r40_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="file: cannot be made"):
        save_image(tmp_path / "file" / "a.png", RAMP)


def test_file_appears_whole_under_its_name(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    moved = []

    def replace(source, target):
        assert not path.exists()
        with Image.open(source) as image:
            assert (np.asarray(image) == RAMP).all()
        moved.append((source, target))
        return os.rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    save_image(path, RAMP)
    [(source, target)] = moved
    assert target == path
    assert source.parent == path.parent  # a rename within one file system
    assert source.name.startswith(".")  # if the process dies here, no listing shows it
