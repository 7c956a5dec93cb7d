import io
import os
import struct
import warnings

import numpy as np
import pytest
from image_files import (
    COLOURS,
    DEEP,
    FLIPS,
    RAMP,
    READERS,
    UPRIGHT,
    encode,
    levels,
    png,
    refuses,
    turned,
)
from PIL import EpsImagePlugin, Image

from fusionlib import decoding
from fusionlib.checks import inspect_pairs
from fusionlib.decoding import FrameWarning
from fusionlib.images import (
    SUFFIXES,
    image_size,
    is_grey,
    luma8,
    pixel_sha256,
    read_ir,
    read_luma8,
    read_vi,
    save_image,
)
from fusionlib.pairing import Pair


@pytest.fixture(autouse=True)
def nothing_noted_yet():
    decoding._note_conversion.cache_clear()


@pytest.mark.filterwarnings("ignore:images of mode P")  # GIF
@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.gif", "A.PNG"])
def test_file_gives_its_levels(put, name):
    path = put(name, RAMP)
    assert read_ir(path).dtype == np.float32
    assert np.abs(read_ir(path) - RAMP / 255).max() < 1e-7
    assert (read_luma8(path) == RAMP).all() and image_size(path) == RAMP.shape
    assert np.abs(read_vi(path) - RAMP[:, :, None] / 255).max() < 1e-7
    assert read_vi(path).shape == (*RAMP.shape, 3)
    if not name.endswith("gif"):
        image = read_vi(path := put(name, COLOURS))
        assert image.dtype == np.float32 and np.abs(image - COLOURS / 255).max() < 1e-7
        assert (read_luma8(path) == luma8(image)).all()


def test_lossy_formats_read_within_their_loss(put):
    smooth = np.add.outer(np.arange(0, 128, 2), np.arange(0, 96, 2)).astype(np.uint8)
    for name in ("a.jpg", "a.webp"):
        assert np.abs(read_luma8(put(name, smooth, quality=95)).astype(int) - smooth).max() <= 8


def test_size_comes_from_the_header_alone_and_without_a_warning(put):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(put("large.png", png(10_000, 10_000, 8, 0, None))) == (10_000, 10_000)


@pytest.mark.parametrize("read", READERS)
def test_r04_r18_what_is_no_image_is_refused(put, tmp_path, read, monkeypatch):
    for content in (b"", b"name,split\na,train\n", b"<html>404</html>" * 99):
        refuses(put("fake.png", content), "cannot be read as an image", read=read)
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: pytest.fail("ran"))
    refuses(put("page.png", encode(RAMP, "EPS")), read=read)
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")  # to open it would wait for ever
    for name, word in (("folder", "a folder"), ("pipe", "a pipe"), ("gone", "no such file")):
        refuses(tmp_path / f"{name}.png", f"{word}, not an image", read=read)
    refuses(tmp_path / ("long" * 99 + ".png"), read=read)


@pytest.mark.parametrize("read", READERS)
def test_r18_unreadable_file_is_named(put, read, monkeypatch):
    path = put("secret.png", RAMP)

    def forbidden(*args, **options):  # chmod does not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(io, "open", forbidden)
    monkeypatch.setattr("builtins.open", forbidden)
    refuses(path, "Permission denied", read=read)


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 70_000]], "i4"),
        np.array([[-1, 5]], "i4"),
        np.float32([[-0.01, 0.5]]),
        np.float32([[0.5, 1.01]]),
        np.float32([[20.5, 31.0]]),
    ],
)
def test_r06_r07_levels_outside_what_the_depth_means_need_a_range(put, values):
    path = put("a.tif", values)
    refuses(path, "ir_range")
    assert np.abs(read_ir(path, ir_range=tuple(values[0])) - [[0, 1]]).max() < 1e-6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ir_range", [None, (0, 1)])
def test_r07_not_finite_pixels_are_counted_and_refused(put, bad, ir_range):
    values = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    assert (read_ir(put("a.tif", values), ir_range=ir_range) == values).all()
    values[[0, 1, 3], [0, 2, 4]] = bad
    refuses(put("a.tif", values), "3 pixels", ir_range=ir_range)


def palette(**options):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 200, 0, 10, 20, 30])
    return encode(image, "PNG", **options)


@pytest.mark.parametrize("action", ["default", "always", "error"])
def test_r08_conversion_is_noted_once(put, action):
    path = put("a.png", palette())
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter(action)
        if action == "error":  # stays the note: the file is not damaged
            with pytest.raises(UserWarning, match="mode P"):
                read_vi(path)
            return
        for _ in range(3):
            image = read_vi(path)
    assert [str(note.message) for note in noted] == ["images of mode P are converted through RGB"]
    assert noted[0].filename == __file__
    red, green, dark = [255, 0, 0], [0, 200, 0], [10, 20, 30]
    assert levels(image) == [[red, green], [dark, green]]


@pytest.mark.filterwarnings("ignore:images of mode")
def test_r08_grey_palette_and_one_bit_are_infrared(put):
    image = Image.fromarray(np.array([[0, 1, 1]], np.uint8)).convert("P")
    image.putpalette([9, 9, 9, 77, 77, 77])
    assert levels(read_ir(put("p.png", image))) == [[9, 77, 77]]
    bits = Image.fromarray(np.array([[0, 255, 255]], np.uint8)).convert("1")
    for name in ("a.png", "a.tif"):
        assert read_ir(put(name, bits)).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_r09_alpha_is_dropped_only_if_opaque(put, mode, name):
    for lowest in (255, 254, 0):
        alpha = np.full(RAMP.shape, 255, np.uint8)
        alpha[1, 2] = lowest
        planes = [RAMP] * (len(mode) - 1) + [alpha]
        path = put(name, Image.merge(mode, [Image.fromarray(plane) for plane in planes]))
        if lowest == 255:
            assert levels(read_ir(path)) == RAMP.tolist()
        else:
            refuses(path, "transparent", str(lowest), "fourth channel", "MFNet")


ROW = struct.pack(">6H", 0, 1000, 65_535, 9000, 9000, 9000)


@pytest.mark.filterwarnings("ignore:images of mode P")
@pytest.mark.parametrize(
    "image, unused, used",
    [
        (RAMP, 5, 10),
        (np.dstack([RAMP] * 3), (10, 10, 11), (10, 10, 10)),
        (DEEP, 2571, 2570),
        (ROW, (0, 30_000, 65_535), (0, 1000, 65_535)),  # 16-bit colour
        (palette, b"\xff\xff\xff", b"\xff\x80"),
        (palette, None, 1),
    ],
    ids=["L", "RGB", "I;16", "RGB;16", "alpha of a palette", "index of a palette"],
)
def test_r09_transparent_level_is_refused_where_a_pixel_has_it(put, image, unused, used):
    def write(key):
        if image is palette:
            return put("a.png", palette(transparency=key))
        if image is ROW:
            trns = (b"tRNS", struct.pack(">3H", *key)) if key else ()
            return put("a.png", png(2, 1, 16, 2, [ROW], before=trns))
        return put("a.png", image, transparency=key)

    whole = read_vi(write(None))
    assert (read_vi(write(unused)) == whole).all()
    refuses(write(used), "transparent", read=read_vi)


@pytest.mark.parametrize(
    "mode, name", [("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("LAB", "a.tif"), ("YCbCr", "a.tif")]
)
@pytest.mark.parametrize("read", READERS[:3])
def test_r10_other_colour_modes_are_refused_by_name(put, mode, name, read):
    raw = bytes(range(4 * 4 * len(Image.new(mode, (1, 1)).getbands())))
    refuses(put(name, Image.frombytes(mode, (4, 4), raw)), mode, read=read)


@pytest.mark.filterwarnings("ignore:images of mode P")
@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_r11_one_of_several_frames_must_be_chosen(put, name):
    first, *rest = (Image.new("L", (5, 4), level) for level in (10, 200, 90))
    options = {"lossless": True} if name == "a.webp" else {}
    path = put(name, first, save_all=True, append_images=rest, **options)
    for read in READERS[:3]:
        refuses(path, "3 frames", "frame=0…2 (--frame)", read=read)
    for frame, level in enumerate((10, 200, 90)):
        assert levels(read_ir(path, frame=frame)) == [[level] * 5] * 4
        assert (read_luma8(path, frame=frame) == level).all()
        assert levels(read_vi(path, frame=frame)[..., 1]) == [[level] * 5] * 4
    for frame in (-1, 3):
        refuses(path, f"frame {frame}", frame=frame)
    single = put(name, first)
    for read in READERS:  # it may be meant for the other image of a pair
        assert np.array_equal(read(single, frame=1), read(single))


def test_r11_of_the_pictures_in_a_drone_jpeg_the_first_is_meant(put):
    photo, preview = (Image.new("RGB", size, (*size[::-1], 9)) for size in ((60, 40), (30, 20)))
    path = put("DJI_1.jpg", encode(photo, "MPO", save_all=True, append_images=[preview]))
    with Image.open(path) as stored:
        assert stored.format == "MPO" and stored.n_frames == 2
    for suffix in (".jpg", ".jpe", ".jfif"):
        single = put(f"a{suffix}", encode(photo, "JPEG"))
        with pytest.warns(FrameWarning, match=r"DJI_1\.jpg: the first of its 2 pictures.*--frame"):
            assert suffix in SUFFIXES and (read_vi(single) == read_vi(path)).all()
        assert pixel_sha256(single) == pixel_sha256(path)
    _, issues = inspect_pairs([Pair("mine", "1", put("ir.png", np.zeros((40, 60), "u1")), path)])
    assert [issue.status for issue in issues] == ["frame"]
    assert image_size(path) == (40, 60) and image_size(path, frame=1) == (20, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing to say where one is named
        assert read_vi(path, frame=1).shape == (20, 30, 3)
    refuses(path, "frame 2 of 2", frame=2)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("stored", [RAMP, DEEP], ids=["8 bit", "16 bit"])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_r12_exif_orientation_is_applied(put, name, stored, orientation):
    path = put(name, stored, exif=turned(orientation))
    expected = RAMP
    for flip in UPRIGHT[orientation]:  # the EXIF standard: which way stored rows and columns run
        expected = FLIPS[flip](expected)
    assert levels(read_ir(path)) == expected.tolist()
    assert image_size(path) == expected.shape


def test_r12_orientation_after_the_pixels_is_applied(put):
    exif = turned(6).tobytes().removeprefix(b"Exif\0\0")
    path = put("late.png", png(3, 1, 8, 0, [b"\1\2\3"], after=(b"eXIf", exif)))
    assert levels(read_ir(path)) == [[1], [2], [3]]


def channels(*offsets):
    base = RAMP.astype(int) + 10
    return np.dstack([base + offset for offset in offsets]).astype(np.uint8)


@pytest.mark.parametrize(
    "offsets, level",
    [((0, 0, 0), 10), ((0, 2, 0), 11), ((2, 0, 0), 11), ((0, 0, 2), 10), ((2, 0, 1), 11)],
)
def test_r13_r14_channels_two_levels_apart_are_grey(put, offsets, level):
    path = put("a.png", channels(*offsets))
    assert levels(read_ir(path)) == (RAMP + level).tolist()  # e.g. 10 + 2 × 0.587 = 11.17
    assert is_grey(read_vi(path))


def test_r13_colour_is_refused_unless_luma_is_asked_for(put):
    path = put("three.png", channels(0, 3, 0))
    refuses(path, "3 levels", 'ir_rgb="luma" (--ir-rgb luma)')
    image = channels(0, 0, 0)
    image[2, 3] = 50, 50, 90  # one pixel is enough
    refuses(put("pixel.png", image), "40 levels", "pseudo-colour")
    assert not is_grey(read_vi(path)) and not is_grey(read_vi(path.with_name("pixel.png")))
    tinted = COLOURS // 4 + 90
    luma = read_ir(put("tinted.png", tinted), ir_rgb="luma")
    assert (np.rint(luma * 255) == luma8(tinted / 255)).all()


def test_r62_black_hot_is_inverted_after_the_range(put):
    path = put("a.png", DEEP)
    assert np.abs(read_ir(path, ir_invert=True) - (1 - RAMP / 255)).max() < 1e-6
    ranged = read_ir(put("raw.png", 7000 + DEEP // 100), ir_range=(7000, 7700), ir_invert=True)
    assert np.abs(ranged - (1 - (DEEP // 100) / 700)).max() < 1e-6


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("grey", [[[0, 0]], [[102, 102]], [[255, 255]], [[100, 101], [103, 110]]])
def test_r15_low_contrast_stays_low(tmp_path, grey, dtype):
    stored = np.array(grey, np.uint8)
    for image in (stored, np.dstack([stored] * 3)):
        path = save_image(tmp_path / "a.png", image if dtype == np.uint8 else dtype(image / 255))
        assert np.asarray(Image.open(path)).tolist() == image.tolist()
        assert levels(read_ir(path)) == grey


@pytest.mark.parametrize("read", READERS[:3])
def test_r16_too_many_pixels_are_refused_before_decoding(put, read):
    # the file has no pixels: decoding it would end in another error
    refuses(put("big.png", png(8001, 8000, 8, 0, None)), "max_pixels=64,000,000", read=read)
    refuses(put("edge.png", png(8000, 8000, 8, 0, None)), "damaged", read=read)
    bomb = put("bomb.png", png(50_000, 50_000, 1, 0, None))
    refuses(bomb, "2500000000", "scale it down", "--max-pixels", read=read)


def test_r16_max_pixels_is_the_largest_number_accepted_in_every_page(put):
    small, large = Image.new("L", (12, 10)), Image.new("L", (30, 20))
    path = put("a.tif", small, save_all=True, append_images=[large])
    assert read_ir(path, frame=0, max_pixels=120).shape == (10, 12)
    refuses(path, "12×10", "max_pixels=119", frame=0, max_pixels=119)
    refuses(path, "30×20", "max_pixels=120", frame=1, max_pixels=120)


def test_r16_pillows_own_limit_stops_nothing_and_stays(put, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # above twice of it Pillow raises
    path = put("large.png", np.zeros((11, 12), np.uint8))
    assert read_ir(path).shape == image_size(path) == (11, 12)
    assert Image.MAX_IMAGE_PIXELS == 50
    huge = put("huge.png", png(20_000, 20_000, 8, 0, None))
    refuses(huge, "damaged", max_pixels=400_000_000)  # as it has no pixels, but not for its size


NAMES = ["two words", "-x", "--help", "Straße é", "e\u0301", "夜", "a.b", "n" * 251]


@pytest.mark.parametrize("name", NAMES)
def test_r19_unusual_names_are_written_and_read(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    save_image(f"{name}.png", RAMP)
    assert os.listdir() == [f"{name}.png"]
    assert (read_luma8(f"{name}.png") == RAMP).all() and image_size(f"{name}.png") == RAMP.shape
