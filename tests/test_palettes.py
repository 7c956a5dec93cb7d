import io

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image
from scenes import read_scene
from scipy.ndimage import gaussian_filter

from fusionlib.errors import ImageError
from fusionlib.images import read_ir
from fusionlib.palettes import PaletteWarning, describe, heat, recognise

RAINBOWS = {"jet": "jet", "turbo": "turbo", "rainbow": "rainbow of matplotlib"}
BRIGHT = {name: name for name in ("inferno", "plasma", "magma", "viridis", "hot")}
KNOWN = RAINBOWS | BRIGHT


def random_heat(low=0.0, high=1.0):
    """Smooth and with edges, all levels from low to high."""
    rng = np.random.default_rng(8)
    image = gaussian_filter(rng.random((120, 160)), 8) + 0.05 * (rng.random((4, 1)) > 0.5).repeat(
        30, 0
    )
    rank = image.ravel().argsort().argsort().reshape(image.shape) / (image.size - 1)
    return low + rank * (high - low)


def coloured(name, values, quality=None):
    """What a plot or a camera stores, (H, W, 3) in [0, 1]."""
    image = Image.fromarray(colormaps[name](values, bytes=True)[:, :, :3])
    if quality:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        image = Image.open(file)
    return np.asarray(image).astype(np.float32) / 255


def test_r13_the_palette_is_named_since_nothing_says_which_end_is_hot(tmp_path):
    image = coloured("jet_r", random_heat())
    with pytest.warns(PaletteWarning, match="'jet', which ends hot; --ir-invert"):
        found = heat("a.png", image)
    assert np.abs(1 - found - random_heat()).max() < 3 / 255


@pytest.mark.parametrize("low, high", [(0, 1), (0.3, 0.6)])
@pytest.mark.parametrize("name", KNOWN)
def test_r13_known_palettes_are_turned_back_into_heat(name, low, high):
    if name == "hot" and high < 1:
        pytest.skip("jet has these colours, too")
    values = random_heat(low, high)
    image = coloured(name, values)
    assert recognise(image) == (KNOWN[name],)
    error = np.abs(heat("a.png", image) - values)
    assert error.mean() < 0.005 and error.max() <= 0.02
    for quality, limit in ((90, 0.02), (75, 0.03)):
        image = coloured(name, values, quality)
        assert np.abs(heat("a.jpg", image) - values).mean() < limit


IRON = "00000a 0c0074 3d0093 6e009c 9c009b bb0593 cf197b e0373b eb5309 f26e01 f88c00 fdad00 feca01"


def test_r13_iron_of_cameras_is_turned_back():
    anchors = np.array([list(bytes.fromhex(colour)) for colour in IRON.split()])
    values = random_heat(0, 12 / 15)
    image = np.dstack([np.interp(values * 15, range(13), channel) for channel in anchors.T]) / 255
    assert recognise(image) == ("iron",)
    assert np.abs(heat("a.png", image) - values).mean() < 0.01


@pytest.mark.parametrize("name", KNOWN)
def test_r13_luma_is_refused_where_it_does_not_rise_with_heat(tmp_path, name):
    values = random_heat()
    path = tmp_path / "a.png"
    Image.fromarray(np.rint(coloured(name, values) * 255).astype(np.uint8)).save(path)
    with pytest.raises(ImageError, match=rf"a\.png.*{KNOWN[name]}.*--ir-rgb palette") as caught:
        read_ir(path)
    assert ("--ir-rgb luma" in str(caught.value)) == (name in BRIGHT)
    assert np.abs(read_ir(path, ir_rgb="palette") - values).mean() < 0.005
    inverted = read_ir(path, ir_rgb="palette", ir_invert=True)
    assert np.abs(inverted - (1 - values)).mean() < 0.005
    if name in RAINBOWS:
        with pytest.raises(ImageError, match=r"does not rise with heat.*--ir-rgb palette"):
            read_ir(path, ir_rgb="luma")
    else:
        luma = read_ir(path, ir_rgb="luma")
        assert np.corrcoef(luma.ravel().argsort().argsort(), values.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("name", ["nipy_spectral", "gist_ncar", "prism", "terrain"])
def test_r13_unknown_rainbows_are_refused_both_ways(tmp_path, name):
    path = tmp_path / "a.png"
    Image.fromarray(np.rint(coloured(name, random_heat()) * 255).astype(np.uint8)).save(path)
    for ir_rgb in ("grey", "luma", "palette"):
        with pytest.raises(ImageError, match=r"a\.png"):
            read_ir(path, ir_rgb=ir_rgb)


def test_r13_colours_that_two_palettes_give_to_opposite_heat_are_refused():
    """From yellow to dark red heat rises in jet and falls in hot."""
    image = coloured("jet", random_heat(0.67, 1))
    assert {"jet", "hot"} <= set(recognise(image))
    assert "disagree on what is hot" in describe(image)
    with pytest.raises(ImageError, match=r"jet.*hot.*disagree"):
        heat("a.png", image)


@pytest.mark.parametrize("name", ["day_street", "dusk_camp", "night_crossing"])
def test_r20_visible_images_are_no_palette(tmp_path, name):
    _, vi = read_scene(name)
    assert recognise(vi / np.float32(255)) == ()
    Image.fromarray(vi).save(path := tmp_path / "vi.png")
    with pytest.raises(ImageError, match="a visible image, or pseudo-colour"):
        read_ir(path)
    with pytest.raises(ImageError, match=r"none of the palettes known here fits \(jet.*turbo"):
        read_ir(path, ir_rgb="palette")
    read_ir(path, ir_rgb="luma")
