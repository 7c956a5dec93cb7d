import warnings

import numpy as np
import pytest
from image_files import refuses
from PIL import Image

from fusionlib.errors import ImageError
from fusionlib.images import read_ir, read_luma8, read_vi
from fusionlib.levels import LevelsWarning, find_range

SCENE = np.clip(np.random.default_rng(3).normal(0.4, 0.15, (60, 80)), 0, 1)
SCENE[:2, :3] = [[0, 0, 0], [1, 1, 1]]


def counts(low, high, kind="u2"):
    return np.rint(low + SCENE * (high - low)).astype(kind)


def with_pixels(levels, share, level):
    """With a few dead pixels, or lamps in a dark scene."""
    levels = levels.copy()
    levels.flat[-int(share * levels.size) :] = level
    return levels


@pytest.mark.parametrize(
    "name, levels",
    [
        ("12-bit.png", counts(0, 4095)),
        ("raw.png", counts(7200, 8200)),
        ("fog.png", counts(51_241, 52_181)),
        ("dead.png", with_pixels(counts(7200, 8200), 0.0005, 65_535)),
        ("14-bit.png", counts(0, 16_383)),
        ("centikelvin.png", counts(26_000, 35_000)),  # 90 K
        ("int32.tif", counts(0, 255, "i4")),
        ("int64.tif", counts(7200, 8200, "i8")),
        ("divided.tif", counts(7200, 8200) / 65_535),
        ("half.tif", (counts(7200, 8200) / 65_535).astype("f2")),
    ],
)
def test_r62_raw_counts_are_refused_with_options_that_work(put, name, levels):
    path = put(name, levels)
    refuses(path, "raw counts", read=read_luma8)
    with pytest.raises(ImageError, match=rf"{name}.*--vi-range auto"):
        read_vi(path)
    with pytest.raises(ImageError, match=rf"{name}.*--ir-range auto") as caught:
        read_ir(path)
    low, high = str(caught.value).partition("--ir-range ")[2].split()[:2]
    numbers = float(low), float(high)
    assert np.allclose(numbers, find_range([path], "ir"), rtol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_ir(path, ir_range=numbers)
    assert image.min() < 1e-3 and image.max() > 0.999 and 0.3 < image.mean() < 0.5
    white = 1 if levels.dtype.kind == "f" else 65_535  # if this is what is meant
    assert np.abs(read_ir(path, ir_range=(0, white)) - levels.astype(float) / white).max() < 1e-6


@pytest.mark.parametrize(
    "name, levels",
    [
        ("full.png", counts(0, 65_535)),
        ("left-aligned.png", counts(0, 4095) * 16),
        ("third.png", counts(0, 22_000)),
        ("flat.png", counts(30_000, 50_000)),
        ("lamps.png", with_pixels(counts(0, 3000), 0.002, 65_000)),
        ("few-lamps.png", with_pixels(counts(0, 12_000), 0.0005, 65_000)),
        ("widened.png", counts(0, 20) * 257),
        ("shifted.png", counts(3, 20) * 256),
        ("constant.png", np.full((9, 9), 700, "u2")),
        ("float.tif", counts(0, 20) / 255),
        ("dark.png", counts(0, 9, "u1")),
    ],
)
def test_r62_scaled_images_are_read_as_they_are_dark_ones_too(put, name, levels):
    white = {"u1": 255, "u2": 65_535, "f8": 1}[levels.dtype.str[1:]]
    image = read_ir(put(name, levels))
    assert np.abs(image - levels.astype(float) / white).max() < 1e-6


def test_r62_auto_is_one_range_that_fits_every_frame(put):
    frames = [put(f"{k}.png", counts(7000 + k, 7900 + 2 * k)) for k in (0, 300, 50)]
    low, high = find_range(iter(frames), "ir")
    alone = [find_range([frame], "ir") for frame in frames]
    assert (low, high) == (min(a for a, _ in alone), max(b for _, b in alone))
    for frame in frames:
        raw = np.asarray(Image.open(frame))
        assert (raw < low).mean() <= 0.001 and (raw > high).mean() <= 0.001


def test_r62_auto_needs_files_that_one_range_can_fit(put):
    with pytest.raises(ImageError, match="no images"):
        find_range([], "vi")
    with pytest.raises(ImageError, match="one level"):
        find_range([put("a.png", np.full((5, 5), 7200, "u2"))], "ir")
    with pytest.raises(ImageError, match="1 pixels are not finite"):
        find_range([put("a.tif", np.array([[0.5, np.nan]]))], "ir")
    pages = put("a.tif", np.stack([counts(0, 9), counts(5, 99)]))
    assert find_range([pages], "ir", frame=1) > (5, 9)


def test_r62_a_hot_pixel_in_a_frame_of_one_level_is_neither_a_range_nor_hidden(put):
    scene, flat = counts(7000, 9000), np.full((100, 100), 8000, "u2")
    flat[50, 50] = 65_535
    paths = [put("scene.png", scene), put("flat.png", flat)]
    assert find_range(paths, "ir") == find_range(paths[:1], "ir")
    refuses(paths[1], "--ir-range 8000 65535")


def test_r62_levels_outside_the_scale_are_never_called_meant_as_they_are(put):
    with pytest.raises(ImageError, match="outside 0…1") as caught:
        read_ir(put("kelvin.tif", np.linspace(290, 310, 100).reshape(10, 10)))
    assert "as they are" not in str(caught.value)


def test_r62_black_hot_is_inverted_after_the_range(put):
    path = put("raw.png", counts(7000, 7600))
    ranged = read_ir(path, ir_range=(7000, 7600), ir_invert=True)
    assert np.abs(ranged - (7600 - counts(7000, 7600)) / 600).max() < 1e-6


@pytest.mark.parametrize("side, read", [("ir", read_ir), ("vi", read_vi)])
def test_r63_a_range_that_clips_many_pixels_is_reported(put, side, read):
    path = put("a.png", counts(7200, 8200))
    for given, words in (
        ((0, 7400), "become white"),
        ((7700, 9000), "become black"),
        ((20, 30), "100% of the values become white"),  # degrees for counts
    ):
        with pytest.warns(LevelsWarning) as noted:
            read(path, **{f"{side}_range": given})
        (note,) = noted
        for word in (path.name, f"{side}_range=({given[0]}, {given[1]})", words):
            assert word in str(note.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(path, **{f"{side}_range": tuple(np.percentile(counts(7200, 8200), [2, 98]))})


def test_r63_a_raw_range_for_an_8_bit_file_is_refused(put):
    path = put("a.png", counts(0, 255, "u1"))
    for given in ((7200, 8200), (0, 4095), (-40, 120)):
        refuses(path, "has 8 bits", "--ir-range", ir_range=given)
        refuses(path, "has 8 bits", "--vi-range", read=read_vi, vi_range=given)
    assert (read_ir(path, ir_range=(0, 255)) == read_ir(path)).all()
