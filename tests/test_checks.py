"""Rows 3, 4, 18, 20, 21 and 22 of the fault list: what is said of pairs before they are used."""

import functools
import os
import runpy

import numpy as np
import pytest
from PIL import Image
from scenes import read_scene

from fusionlib import checks
from fusionlib.checks import compare_with_list, inspect_pairs, shift
from fusionlib.datasets import Pair, find_pairs, pair_folders
from fusionlib.download import prepare
from fusionlib.errors import ImageError, PairError
from fusionlib.images import luma, read_vi, save_image
from fusionlib.splits import SPLITS

SCENES = ("dusk_camp", "night_street", "hidden_person")


def statuses(issues):
    return [(issue.name, issue.status) for issue in issues]


@pytest.fixture
def folders(tmp_path):
    """Three registered pairs, as the folders of a dataset."""
    for name in SCENES:
        for kind, picture in zip(("ir", "vi"), read_scene(name), strict=True):
            save_image(tmp_path / "TNO" / kind / f"{name}.png", picture)
    return tmp_path / "TNO" / "ir", tmp_path / "TNO" / "vi"


def test_r03_resizing_is_recorded(folders):
    pairs = pair_folders(*folders)
    assert inspect_pairs(pairs) == inspect_pairs(pairs, resize="ir-to-vi") == (pairs, [])
    save_image(folders[0] / f"{SCENES[0]}.png", read_scene(SCENES[0])[0][::2, ::2])
    with pytest.raises(PairError, match="--resize ir-to-vi"):
        inspect_pairs(pair_folders(*folders))
    _, issues = inspect_pairs(pair_folders(*folders), resize="ir-to-vi")
    assert statuses(issues) == [(SCENES[0], "resized")]
    assert issues[0].detail == "infrared from 128×128 to 256×256"


def test_r18_links_out_of_the_folder_are_followed_only_on_request(folders, tmp_path):
    link, outside = folders[0] / f"{SCENES[0]}.png", tmp_path / "outside.png"
    link.rename(outside)
    link.symlink_to(outside)
    for read in (
        functools.partial(pair_folders, *folders),
        functools.partial(find_pairs, tmp_path, "TNO"),
        lambda **_: prepare("TNO", tmp_path / "TNO", tmp_path / "root"),  # whatever is asked for
    ):
        with pytest.raises(PairError, match=r"dusk_camp\.png is a link out of its .*--follow"):
            read()
    assert not (tmp_path / "root" / "TNO").exists()
    assert len(inspect_pairs(pair_folders(*folders, follow_links=True))[0]) == 3
    outside.unlink()
    with pytest.raises(PairError, match="not a file"):
        find_pairs(tmp_path, "TNO", follow_links=True)
    link.unlink()
    link.symlink_to(folders[0] / f"{SCENES[1]}.png")  # within the folder, as a linked folder, fine
    (tmp_path / "root" / "TNO").symlink_to(tmp_path / "TNO")
    assert len(find_pairs(tmp_path / "root", "TNO")) == 3
    for make, undo in ((os.mkdir, os.rmdir), (os.mkfifo, os.unlink)):
        make(folders[1] / "x.png")
        with pytest.raises(PairError, match=r"x\.png: not a file"):
            pair_folders(*folders)
        undo(folders[1] / "x.png")


def test_r20_swapped_folders_are_pointed_out(folders):
    for path in folders[1].iterdir():  # scenes are not all in colour
        save_image(path, read_vi(path) * np.float32([0.9, 0.4, 0.2]) + np.float32([0.1, 0, 0]))
    pairs = pair_folders(*folders[::-1])
    with pytest.raises(ImageError, match=r"pseudo-colour .* are the two swapped"):
        inspect_pairs(pairs)
    _, issues = inspect_pairs(pairs, ir_rgb="luma")
    assert statuses(issues)[0] == ("", "swapped")
    assert issues[0].detail.endswith("swapped folders?")
    save_image(pairs[0].ir, read_scene(SCENES[0])[0])  # one grey infrared image is enough
    _, issues = inspect_pairs(pairs, ir_rgb="luma")
    assert "swapped" not in [issue.status for issue in issues]


@pytest.mark.parametrize("across, down", [(26, 0), (0, -20), (-15, 13)])
def test_r21_shift_is_found_with_its_direction(across, down):
    found = []
    for name in SCENES:
        ir, vi = (picture / np.float32(255) for picture in read_scene(name))
        vi = luma(vi)
        height, width = ir.shape
        a, d = max(across, 0), max(down, 0)  # cut off on the left and above
        left, above = max(-across, 0), max(-down, 0)
        ir = ir[d : height - above, a : width - left]
        vi = vi[above : height - d, left : width - a]
        moved = shift(ir, vi)  # what was cut off on its left, it lacks there
        if moved is not None:
            found.append(moved)
            assert np.abs(np.array(moved) * ir.shape[1] - (across, down)).max() < 4
    assert len(found) >= 2  # it may be unsure, but not always


def test_r21_shifted_pair_is_reported_and_used(folders):
    save_image(folders[0] / f"{SCENES[0]}.png", np.roll(read_scene(SCENES[0])[0], 26, axis=1))
    pairs = pair_folders(*folders)
    good, issues = inspect_pairs(pairs)
    assert good == pairs and statuses(issues) == [(SCENES[0], "misaligned")]
    assert "possibly" in issues[0].detail and "-10% across" in issues[0].detail


@pytest.mark.parametrize("shape", [(1, 1), (40, 300), (300, 40), (256, 256), (60, 4000)])
def test_r21_nothing_is_said_of_what_cannot_be_judged(shape):
    rng = np.random.default_rng(0)
    flat = np.full(shape, 0.5, np.float32)
    noise = [rng.random(shape, dtype=np.float32) for _ in range(2)]
    assert shift(flat, flat) is None
    assert shift(flat, noise[0]) is None
    assert shift(*noise) is None


@pytest.fixture
def listed(folders, tmp_path):
    splits = tmp_path / "splits"
    write_list = runpy.run_path(str(SPLITS / "draw.py"))["write_list"]
    write_list(pair_folders(*folders, "TNO"), "TNO", splits)
    return splits


def compare(folders, splits, **options):
    return compare_with_list(pair_folders(*folders, "TNO"), "TNO", splits=splits, **options)


def test_r22_changed_missing_and_extra_files_are_told_apart(folders, listed):
    assert compare(folders, listed) == []
    first, second, _ = sorted(SCENES)
    save_image(folders[1] / f"{first}.png", np.zeros((256, 256, 3)))
    for folder in folders:
        (folder / f"{second}.png").rename(folder / "other.png")
    issues = compare(folders, listed)
    assert sorted(statuses(issues)) == sorted(
        [(first, "changed"), (second, "missing"), ("other", "unlisted")]
    )
    assert next(i for i in issues if i.status == "changed").detail.endswith(": vi")
    assert not [i for i in compare(folders, listed, part="train") if i.status == "missing"]
    assert checks.summary(issues).startswith(f"1 changed: {first}; 1 unlisted: other")


def test_r22_lossless_copies_are_the_listed_images_and_damaged_ones_are_said(folders, listed):
    for path in [path for folder in folders for path in folder.iterdir()]:
        image = Image.open(path).convert("RGB")  # as WebP stores grey
        image.save(path.with_suffix(".webp"), lossless=True)
        path.unlink()
    assert compare(folders, listed) == []
    level, cut, _ = (folders[1] / f"{name}.webp" for name in sorted(SCENES))
    levels = np.array(Image.open(level))
    levels[7, 9, 2] ^= 1
    Image.fromarray(levels).save(level, lossless=True)
    cut.write_bytes(cut.read_bytes()[:900])
    issues = compare(folders, listed)
    assert [issue.status for issue in issues] == ["changed", "damaged"]
    assert str(cut) in issues[1].detail


def test_list_without_hashes_compares_names_only_and_the_summary_names_ten(folders, tmp_path):
    (tmp_path / "TNO.csv").write_text("name,split,sha256_ir,sha256_vi\ndusk_camp,test,,\n")
    assert [issue.status for issue in compare(folders, tmp_path)] == ["unlisted"] * 2
    issues = [checks.Issue("TNO", f"{i:02d}", "missing", "") for i in range(12)]
    assert checks.summary(issues).startswith("12 missing: 00, 01")
    assert checks.summary(issues).endswith("09 and 2 more")


@pytest.mark.parametrize("name", ["../x", "/x", "a\\b", "..", "", "a\nb", "a\0b"])
def test_r37_names_that_lead_out_never_become_pairs(name, tmp_path):
    for dataset, pair in (("TNO", name), (name or "../x", "01")):
        with pytest.raises(PairError, match="in a name"):
            Pair(dataset, pair, tmp_path / "ir.png", tmp_path / "vi.png")
