import os
from pathlib import Path

import numpy as np
import pytest
from image_files import turned
from PIL import Image
from textures import touch

from fusionlib import datasets
from fusionlib.datasets import Pair, check_pair, find_pairs, load_pair
from fusionlib.errors import DatasetError, PairError
from fusionlib.images import save_image
from fusionlib.splits import SPLITS


@pytest.fixture
def pair(folders):
    """Write two arrays as a pair."""
    ir, vi = folders

    def write(first, second):
        return Pair("", "a", save_image(ir / "a.png", first), save_image(vi / "a.png", second))

    return write


def test_pair_is_read_as_it_is(pair):
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    second = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    written = pair(first, second)
    ir, vi = load_pair(written)
    assert ir.dtype == vi.dtype == np.float32
    assert np.abs(ir - first / 255).max() < 1e-7 and np.abs(vi - second / 255).max() < 1e-7
    assert check_pair(written) == ""
    assert (load_pair(written, resize="ir-to-vi")[0] == ir).all()  # nothing to resample
    Image.fromarray(1000 + 10 * first.astype("<u2")).save(written.ir)
    assert (load_pair(written, ir_range=(1000, 3550))[0] == ir).all()


def test_r03_differing_sizes_are_an_error_with_both_and_scaled_on_request(pair):
    vi = np.random.default_rng(1).uniform(size=(12, 16, 3))
    for height, width in ((16, 12), (6, 8), (1, 1)):
        written = pair(np.full((height, width), 0.4), vi)
        with pytest.raises(PairError) as caught:
            load_pair(written)
        sizes = f"{written.ir} is {width}×{height} but {written.vi} is 16×12"
        assert str(caught.value).startswith(sizes) and "--resize ir-to-vi" in str(caught.value)
        assert check_pair(written) == str(caught.value)
        got_ir, got_vi = load_pair(written, resize="ir-to-vi")
        assert got_ir.shape == (12, 16) and got_ir.dtype == np.float32
        assert np.abs(got_ir - 0.4).max() < 1e-6
        assert np.abs(got_vi - vi).max() <= 0.5 / 255 + 1e-6  # not touched
    step = np.tile([0.0, 0, 0, 1, 1, 1], (6, 1))
    ir, _ = load_pair(pair(step, np.zeros((18, 18, 3))), resize="ir-to-vi")
    assert ir.min() == 0 and ir.max() == 1  # no overshoot


def test_r12_orientation_of_one_half_alone_is_an_error(pair):
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    written = pair(levels, levels)
    Image.fromarray(levels).save(written.ir, exif=turned(6))
    with pytest.raises(PairError, match=r"3×4 .* 4×3"):
        load_pair(written)
    assert check_pair(written)
    Image.fromarray(levels).save(written.vi, exif=turned(6))
    ir, vi = load_pair(written)
    assert ir.shape == (4, 3) and (ir == vi[:, :, 0]).all()
    assert check_pair(written) == ""


# Layouts


@pytest.mark.parametrize(
    ("dataset", "layout"),
    [
        ("RoadScene", [("ir", "vi")]),
        ("RoadScene", [("cropinfrared", "crop_LR_visible")]),
        ("MSRS", [("train/ir", "train/vi"), ("test/ir", "test/vi")]),
        ("LLVIP", [("infrared/train", "visible/train"), ("infrared/test", "visible/test")]),
        ("LLVIP", [("infrared/train", "visible/train")]),
        ("M3FD", [("Ir", "Vis")]),
        ("TNO", [("IR", "VIS")]),
        ("MyCams", [("ir", "vi")]),  # any folder with ir/ and vi/
    ],
)
def test_layout_is_found(tmp_path, dataset, layout):
    assert find_pairs(tmp_path, dataset) == []
    folder, expected = tmp_path / dataset, []
    touch(folder / "crop_HR_visible", "a9.png")  # not aligned with the others
    for part, (ir, vi) in enumerate(layout):
        for name in (f"b{9 - part}", f"a{9 - part}"):  # names of later parts sort between
            touch(folder / ir, f"{name}.png")
            touch(folder / vi, f"{name}.jpg")
            pair = Pair(dataset, name, folder / ir / f"{name}.png", folder / vi / f"{name}.jpg")
            expected.append(pair)
    assert find_pairs(str(tmp_path), dataset) == sorted(expected, key=lambda pair: pair.name)
    if len(layout) == 2:
        touch(pair.ir.parent, "a9.png")
        touch(pair.vi.parent, "a9.jpg")
        with pytest.raises(DatasetError, match=r"a9 stands both in .*train.* and .*test"):
            find_pairs(tmp_path, dataset)
    touch(folder / layout[0][0], "orphan.png")
    with pytest.raises(PairError, match=r"orphan\.png"):
        find_pairs(tmp_path, dataset)


def test_one_folder_under_two_names_counts_once(tmp_path):
    folder = tmp_path / "TNO"
    for name, target in (("IR", "ir"), ("VIS", "vi")):
        touch(folder / target, "a.png")
        if not (folder / name).exists():
            (folder / name).symlink_to(target)
    assert [pair.name for pair in find_pairs(tmp_path, "TNO")] == ["a"]


def test_what_is_not_there_is_an_error_that_names_own_datasets(tmp_path):
    for side in ("ir", "vi"):
        touch(tmp_path / "MyCams" / side, "a.png")
    with pytest.raises(DatasetError, match=r"no FLIR .*RoadScene, LLVIP, MSRS.*there: MyCams"):
        datasets.require_pairs(tmp_path, "FLIR")
    for name in ("../FLIR", "", "a/b"):
        with pytest.raises(DatasetError, match="expected the name of a folder"):
            find_pairs(tmp_path, name)


def test_pairs_of_two_folders_are_called_after_what_holds_them():
    def name(*paths):
        return datasets.name_of_folders(*map(Path, paths))

    assert name("MyCams/ir", "MyCams/vi") == "MyCams" and name("a/hot", "b/seen") == "hot"
    assert name("pairs.csv") == "pairs" and name("/ir", "/vi") == "own"
    assert name("TNO/ir", "TNO/vi") == "TNO-pairs"  # numbers of other pairs must not pass as TNO's


def test_default_root_is_as_given_the_environments_or_ours(monkeypatch, tmp_path):
    for given, root in ((str(tmp_path), tmp_path), ("~/images", Path.home() / "images")):
        monkeypatch.setenv("FUSIONLIB_DATA", given)
        assert datasets.default_root() == root
    assert datasets.chosen_root("synthetic") is None  # what is given comes first
    assert datasets.chosen_root("./synthetic") == Path("synthetic")
    monkeypatch.setenv("FUSIONLIB_DATA", "synthetic")
    assert datasets.chosen_root() is None and datasets.default_root(tmp_path) == tmp_path
    with pytest.raises(DatasetError, match=r"'synthetic' means the drawn scenes.*\./synthetic"):
        datasets.default_root()
    for unset in (lambda: monkeypatch.setenv("FUSIONLIB_DATA", ""), monkeypatch.undo):
        unset()
        if not os.environ.get("FUSIONLIB_DATA"):
            assert datasets.default_root() == SPLITS.parent / "images"
