import numpy as np
import pytest
from image_files import refuses
from matplotlib import colormaps
from scenes import read_scene
from scipy.ndimage import gaussian_filter

from fusionlib.images import read_ir
from fusionlib.palettes import PaletteWarning

RAINBOWS = {"jet": "jet", "turbo": "turbo", "rainbow": "rainbow of matplotlib"}
BRIGHT = {name: name for name in ("inferno", "plasma", "magma", "viridis", "hot")}
KNOWN = RAINBOWS | BRIGHT


def random_heat(low=0.0, high=1.0):
    """Smooth and with edges, all levels from low to high."""
    rng = np.random.default_rng(8)
    edges = (rng.random((4, 1)) > 0.5).repeat(30, 0)
    image = gaussian_filter(rng.random((120, 160)), 8) + 0.05 * edges
    rank = image.ravel().argsort().argsort().reshape(image.shape) / (image.size - 1)
    return low + rank * (high - low)


def coloured(name, values):
    """What a plot or a camera stores, (H, W, 3) uint8."""
    return colormaps[name](values, bytes=True)[:, :, :3]


def heat(path, name, **options):
    """What is read as heat, if the palette is called so."""
    with pytest.warns(PaletteWarning, match=f"'{name}', which ends hot; --ir-invert"):
        return read_ir(path, ir_rgb="palette", **options)


PARTS = [(name, 0.3, 0.6) for name in KNOWN if name != "hot"]  # jet has hot's, too


@pytest.mark.parametrize("name, low, high", [*((name, 0, 1) for name in KNOWN), *PARTS])
def test_r13_known_palettes_are_turned_back_into_heat(put, name, low, high):
    values = random_heat(low, high)
    image = coloured(name, values)
    error = np.abs(heat(put("a.png", image), KNOWN[name]) - values)
    assert error.mean() < 0.005 and error.max() <= 0.02
    for quality, limit in ((90, 0.02), (75, 0.03)):
        path = put("a.jpg", image, quality=quality)
        assert np.abs(heat(path, KNOWN[name]) - values).mean() < limit


IRON = "00000a 0c0074 3d0093 6e009c 9c009b bb0593 cf197b e0373b eb5309 f26e01 f88c00 fdad00 feca01"


def test_r13_iron_of_cameras_is_turned_back(put):
    anchors = np.array([list(bytes.fromhex(colour)) for colour in IRON.split()])
    values = random_heat(0, 12 / 15)
    image = np.dstack([np.interp(values * 15, range(13), channel) for channel in anchors.T])
    path = put("a.png", np.rint(image).astype(np.uint8))
    assert np.abs(heat(path, "iron") - values).mean() < 0.01


@pytest.mark.parametrize("name", KNOWN)
def test_r13_luma_is_refused_where_it_does_not_rise_with_heat(put, name):
    values = random_heat()
    path = put("a.png", coloured(name, values))
    inverted = heat(path, KNOWN[name], ir_invert=True)
    assert np.abs(inverted - (1 - values)).mean() < 0.005
    refuses(path, KNOWN[name], "--ir-rgb palette")
    if name in RAINBOWS:
        refuses(path, "--ir-rgb palette", "does not rise with heat", ir_rgb="luma")
    else:
        refuses(path, "--ir-rgb luma")
        luma = read_ir(path, ir_rgb="luma")
        assert np.corrcoef(luma.ravel().argsort().argsort(), values.ravel())[0, 1] > 0.99


def test_r13_colours_that_two_palettes_give_to_opposite_heat_are_refused(put):
    """From yellow to dark red heat rises in jet and falls in hot."""
    path = put("a.png", coloured("jet", random_heat(0.67, 1)))
    for ir_rgb in ("grey", "luma", "palette"):
        refuses(path, "'jet'", "'hot'", "disagree on what is hot", ir_rgb=ir_rgb)


@pytest.mark.parametrize("name", ["day_street", "dusk_camp", "night_crossing"])
def test_r20_visible_images_are_no_palette(put, name):
    _, vi = read_scene(name)
    path = put("vi.png", vi)
    refuses(path, "a visible image, or pseudo-colour")
    refuses(path, "a visible image", "jet, ", "turbo, ", ir_rgb="palette")
    read_ir(path, ir_rgb="luma")
