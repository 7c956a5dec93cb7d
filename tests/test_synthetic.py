"""The drawn scenes and the real pairs that come with the repository."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from PIL import Image
from scenes import read_scene
from scipy.fft import fft2, ifft2
from scipy.ndimage import gaussian_gradient_magnitude

from fusionlib.checks import compare_with_list, inspect_pairs
from fusionlib.datasets import SCENES, SYNTHETIC, find_pairs, pair_folders
from fusionlib.files import REPOSITORY
from fusionlib.splits import read_split

ALL = tuple(read_split(SYNTHETIC))
GREY = np.array([0.299, 0.587, 0.114])
REAL_PAIRS = REPOSITORY / "data" / "real"


def shift_between(a, b):
    """Displacement of `b` against `a` in pixels, from phase correlation of edge strength."""
    window = np.hanning(a.shape[0])[:, None] * np.hanning(a.shape[1])
    a, b = (fft2(window * np.log1p(gaussian_gradient_magnitude(v, 1.0))) for v in (a, b))
    cross = a.conj() * b
    surface = ifft2(cross / np.maximum(np.abs(cross), 1e-9)).real
    peak = np.array(np.unravel_index(surface.argmax(), surface.shape))
    return np.where(peak > np.array(surface.shape) // 2, peak - surface.shape, peak)


@pytest.mark.long
def test_drawing_again_gives_the_committed_pictures(tmp_path):
    command = [sys.executable, "-B", str(SCENES / "draw.py"), str(tmp_path)]
    subprocess.run(command, check=True, timeout=300)
    drawn = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")}
    assert drawn == {path.relative_to(SCENES) for path in SCENES.rglob("*.png")}
    for path in drawn:
        again, committed = (np.asarray(Image.open(root / path)) for root in (tmp_path, SCENES))
        assert again.shape == committed.shape
        # equal where it was drawn; another processor may round the last bit another way
        assert (again != committed).mean() < 1e-3, path


def test_the_pictures_are_those_of_the_list():
    pairs = find_pairs(SCENES, SYNTHETIC)
    assert len(pairs) == 16 and compare_with_list(pairs, SYNTHETIC) == []


def test_sizes_differ_and_one_is_odd():
    tests = [name for name, part in read_split(SYNTHETIC).items() if part == "test"]
    sizes = {read_scene(name)[0].shape for name in tests}
    assert len(tests) == len(sizes) == 8
    assert any(height % 2 and width % 2 for height, width in sizes)


@pytest.mark.parametrize("name", ALL)
def test_pictures_use_their_range_are_in_colour_and_registered(name):
    ir, vi = read_scene(name)
    assert vi.shape == (*ir.shape, 3) and all(256 <= side <= 640 for side in ir.shape)
    assert np.ptp(np.percentile(ir, [1, 99])) > 60
    assert np.ptp(np.percentile(vi @ GREY, [1, 99])) > 60
    assert np.ptp(vi.astype(int), axis=-1).mean() > 2
    assert np.abs(shift_between(vi @ GREY, ir.astype(float))).max() <= 1


def test_registration_check_notices_a_shift():
    ir, vi = read_scene("day_street")
    assert shift_between(vi @ GREY, np.roll(ir, (3, -5), (0, 1)).astype(float)).tolist() == [3, -5]


def test_over_exposed_scene_is_clipped_where_the_infrared_is_not():
    ir, vi = read_scene("over_exposure")
    assert (vi @ GREY > 245).mean() > 0.10
    assert (ir > 245).mean() < 0.01


def test_no_scene_is_a_copy_or_a_crop_of_another():
    small = {
        name: np.asarray(Image.fromarray(read_scene(name)[1]).convert("L").resize((64, 64)), float)
        for name in ALL
    }
    for a, b in combinations(ALL, 2):
        assert np.corrcoef(small[a].ravel(), small[b].ravel())[0, 1] < 0.97, (a, b)


def test_real_pairs_can_be_fused_and_name_their_licence():
    pairs = pair_folders(REAL_PAIRS / "ir", REAL_PAIRS / "vi")
    assert len(pairs) == 17 and "mug" in {pair.name for pair in pairs}
    assert inspect_pairs(pairs)[0] == pairs  # raises if two sizes differ
    assert "CC0 1.0 Universal" in (REAL_PAIRS / "LICENSE-mug").read_text(encoding="utf-8")
    assert "MIT License" in (REAL_PAIRS / "LICENSE-road").read_text(encoding="utf-8")
