import os
import warnings

import numpy as np
import pytest
from image_files import COLOURS, RAMP, encode, levels, png, refuses
from PIL import EpsImagePlugin, Image

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


@pytest.mark.parametrize("read", [read_ir, image_size])
def test_r04_r18_what_is_no_image_is_refused(put, tmp_path, read, monkeypatch):
    for content in (b"", b"name,split\na,train\n", b"<html>404</html>" * 99):
        refuses(put("fake.png", content), "cannot be read as an image", read=read)
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: pytest.fail("ran"))
    refuses(put("page.png", encode(RAMP, "EPS")), read=read)
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")  # to open it would wait for ever
    for name, word in (("folder", "a folder"), ("pipe", "a pipe"), ("n" * 300, "no such file")):
        refuses(tmp_path / f"{name}.png", word, "not an image", read=read)


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 70_000]], "i4"),
        np.array([[-1, 5]], "i4"),
        np.float32([[-0.01, 0.5]]),
        np.float32([[0.5, 1.01]]),
    ],
)
def test_r06_r07_levels_outside_what_the_depth_means_need_a_range(put, values):
    path = put("a.tif", values)
    refuses(path, "ir_range")
    assert np.abs(read_ir(path, ir_range=tuple(values[0])) - [[0, 1]]).max() < 1e-6


def test_r07_not_finite_pixels_are_counted_and_refused(put):
    values = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    for ir_range in (None, (0, 1)):
        assert (read_ir(put("a.tif", values), ir_range=ir_range) == values).all()
    values[[0, 1, 3], [0, 2, 4]] = np.nan, np.inf, -np.inf
    for ir_range in (None, (0, 1)):
        refuses(put("a.tif", values), "3 pixels", ir_range=ir_range)


def palette():
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    image.putpalette([255, 0, 0, 0, 200, 0, 10, 20, 30])
    return image


def test_r08_palette_and_one_bit_are_converted(put):
    red, green, dark = [255, 0, 0], [0, 200, 0], [10, 20, 30]
    assert levels(read_vi(put("a.png", palette()))) == [[red, green], [dark, green]]
    image = Image.fromarray(np.array([[0, 1, 1]], np.uint8)).convert("P")
    image.putpalette([9, 9, 9, 77, 77, 77])
    assert levels(read_ir(put("p.png", image))) == [[9, 77, 77]]
    bits = Image.fromarray(np.array([[0, 255, 255]], np.uint8)).convert("1")
    for name in ("a.png", "a.tif"):
        assert read_ir(put(name, bits)).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_r09_alpha_is_dropped_only_if_opaque(put, mode, name):
    planes = [Image.fromarray(RAMP)] * (len(mode) - 1)
    path = put(name, Image.merge(mode, [*planes, Image.new("L", RAMP.shape[::-1], 255)]))
    assert levels(read_ir(path)) == RAMP.tolist()
    planes.append(Image.fromarray(255 - RAMP // 230))  # one pixel
    refuses(put(name, Image.merge(mode, planes)), "transparent", "254", "fourth channel", "MFNet")


@pytest.mark.parametrize(
    "image, unused, used",
    [
        (RAMP, 5, 10),
        (np.dstack([RAMP] * 3), (10, 10, 11), (10, 10, 10)),
        (palette(), b"\xff\xff\xff", b"\xff\x80"),
    ],
    ids=["level", "colour", "alpha of a palette"],
)
def test_r09_transparent_level_is_refused_where_a_pixel_has_it(put, image, unused, used):
    whole = read_vi(put("a.png", image))
    assert (read_vi(put("a.png", image, transparency=unused)) == whole).all()
    refuses(put("a.png", image, transparency=used), "transparent", read=read_vi)


@pytest.mark.parametrize(
    "mode, name", [("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("LAB", "a.tif"), ("YCbCr", "a.tif")]
)
def test_r10_other_colour_modes_are_refused_by_name(put, mode, name):
    raw = bytes(range(4 * 4 * len(Image.new(mode, (1, 1)).getbands())))
    refuses(put(name, Image.frombytes(mode, (4, 4), raw)), mode, read=read_vi)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_r11_one_of_several_frames_must_be_chosen(put, name):
    first, *rest = (Image.new("L", (5, 4), level) for level in (10, 200, 90))
    options = {"lossless": True} if name == "a.webp" else {}
    path = put(name, first, save_all=True, append_images=rest, **options)
    refuses(path, "3 frames", "frame=0…2 (--frame)")
    for frame, level in enumerate((10, 200, 90)):
        assert levels(read_ir(path, frame=frame)) == [[level] * 5] * 4
        assert levels(read_vi(path, frame=frame)[..., 1]) == [[level] * 5] * 4
    for frame in (-1, 3):
        refuses(path, f"frame {frame}", frame=frame)
    single = put(name, first)  # a frame may be meant for the other image of a pair
    assert np.array_equal(read_ir(single, frame=1), read_ir(single))


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
    refuses(path, "frame 2", frame=2)


def channels(*offsets):
    base = RAMP.astype(int) + 10
    return np.dstack([base + offset for offset in offsets]).astype(np.uint8)


@pytest.mark.parametrize(
    "offsets, level", [((0, 0, 0), 10), ((0, 2, 0), 11), ((0, 0, 2), 10), ((2, 0, 1), 11)]
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


def test_r15_low_contrast_stays_low(tmp_path):
    for grey in ([[0, 0]], [[102, 102]], [[255, 255]], [[100, 101], [103, 110]]):
        stored = np.array(grey, np.uint8)
        for image in (stored, np.dstack([stored] * 3) / 255):
            assert levels(read_ir(save_image(tmp_path / "a.png", image))) == grey


def test_r16_too_many_pixels_are_refused_before_decoding(put, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # above twice of it Pillow raises
    path = put("large.png", np.zeros((11, 12), np.uint8))
    assert read_ir(path).shape == image_size(path) == (11, 12)
    # the files have no pixels: decoding them ends in another error
    refuses(put("big.png", png(8001, 8000, 8, 0, None)), "max_pixels=64,000,000")
    refuses(put("edge.png", png(8000, 8000, 8, 0, None)), "damaged")
    bomb = put("bomb.png", png(50_000, 50_000, 1, 0, None))
    refuses(bomb, "2500000000", "scale it down", "--max-pixels")
    refuses(bomb, "damaged", max_pixels=2_500_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size(bomb) == (50_000, 50_000)
    assert Image.MAX_IMAGE_PIXELS == 50


def test_r16_max_pixels_is_the_largest_number_accepted_in_every_page(put):
    small, large = Image.new("L", (12, 10)), Image.new("L", (30, 20))
    path = put("a.tif", small, save_all=True, append_images=[large])
    assert read_ir(path, frame=0, max_pixels=120).shape == (10, 12)
    refuses(path, "12×10", "max_pixels=119", frame=0, max_pixels=119)
    refuses(path, "30×20", "max_pixels=120", frame=1, max_pixels=120)


def test_r19_unusual_names_are_written_and_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {f"{name}.png" for name in ("two words", "-x", "e\u0301", "夜", "a.b", "n" * 251)}
    assert all((read_luma8(save_image(name, RAMP)) == RAMP).all() for name in names)
    assert set(os.listdir()) == names
