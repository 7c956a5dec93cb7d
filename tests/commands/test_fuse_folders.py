"""``fusionlib fuse`` on folders and lists: what is left out, gone on with, never written over."""

import csv
import functools
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from fusionlib import inference
from fusionlib.images import save_image

load_once = functools.cache(inference.load_fuser)


@pytest.fixture(autouse=True)
def one_fuser(monkeypatch):
    """Loading takes longer than fusing these images."""
    monkeypatch.setattr(inference, "load_fuser", load_once)


@pytest.fixture
def folders(tmp_path):
    """Three pairs of 24×32 in ir/ and vi/."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        save_image(tmp_path / "ir" / f"{name}.png", rng.random((24, 32)))
        save_image(tmp_path / "vi" / f"{name}.png", rng.random((24, 32, 3)))
    return tmp_path / "ir", tmp_path / "vi"


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def issues(folder):
    with (folder / "issues.csv").open(newline="", encoding="utf-8") as file:
        return [(row["name"], row["status"]) for row in csv.DictReader(file)]


# --- Nothing is destroyed -------------------------------------------------------------------------


def as_it_is(source, tmp_path):
    return source


def other_spelling(source, tmp_path):
    return source.parent / ".." / source.parent.name / source.name


def relative(source, tmp_path):
    return os.path.relpath(source)


def soft_link(source, tmp_path):
    (tmp_path / "link.png").symlink_to(source)
    return tmp_path / "link.png"


def hard_link(source, tmp_path):
    os.link(source, tmp_path / "hard.png")
    return tmp_path / "hard.png"


def linked_folder(source, tmp_path):
    (tmp_path / "other").symlink_to(source.parent)
    return tmp_path / "other" / source.name


SPELLINGS = [as_it_is, other_spelling, relative, soft_link, hard_link, linked_folder]


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("spell", SPELLINGS)
def test_r65_a_target_that_is_a_source_is_an_error_by_any_spelling(
    folders, tmp_path, run, spell, side
):
    pair = [folder / "a.png" for folder in folders]
    target = spell(pair[side], tmp_path)
    before = contents(tmp_path)
    status, _, said = run("fuse", *pair, "-o", target)
    assert status == 2 and "is the source" in said and str(pair[side]) in said
    assert contents(tmp_path) == before


@pytest.mark.parametrize("side", ["ir", "vi"])
@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_r65_the_folder_of_sources_is_no_place_for_results(folders, tmp_path, run, side, suffix):
    for path in list((tmp_path / side).iterdir()):
        Image.open(path).save(path.with_suffix(suffix))
        if suffix != ".png":
            path.unlink()
    before = contents(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / side)
    for out in (tmp_path / side, tmp_path / "link", tmp_path / "ir" / ".." / side):
        status, _, said = run("fuse", *folders, "-o", out)
        assert status == 2 and "folder of source images" in said
    (tmp_path / "list.csv").write_text(f"ir,vi,name\nir/a.png,vi/a{suffix},new\n")
    status, _, said = run("fuse", "--pairs", tmp_path / "list.csv", "-o", tmp_path / side)
    assert status == 2 and "folder of source images" in said
    assert contents(tmp_path).keys() - before.keys() == {tmp_path / "list.csv"}


def test_r65_a_link_in_the_result_folder_to_a_source_is_found_before_anything_is_written(
    folders, tmp_path, run
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.png").symlink_to(folders[1] / "b.png")
    before = contents(tmp_path)
    status, _, said = run("fuse", *folders, "-o", tmp_path / "out")
    assert status == 2 and "is the source" in said and "b.png" in said
    assert contents(tmp_path) == before


# --- What is left out, camera names, lists --------------------------------------------------------


def test_r67_files_left_out_are_named_with_the_reason(folders, tmp_path, run):
    (folders[0] / "scan.jp2").touch()
    (folders[1] / "Thumbs.db").touch()
    save_image(folders[0] / "lonely.png", np.zeros((9, 9)))
    fuse = ("fuse", *folders, "-o", tmp_path / "out")
    status, _, said = run(*fuse)
    assert status == 2 and "only in" in said and "lonely.png" in said and "--pairs" in said
    status, said, noted = run(*fuse, "--on-bad", "skip")
    assert status == 0 and "3 of 3 images" in said
    names = ["scan.jp2", "Thumbs.db", "lonely.png"]
    assert issues(tmp_path / "out") == [(name, "left out") for name in names]
    for name in names:
        assert f"left out: {name}: {tmp_path}" in noted
    assert "none of .png, .jpg" in noted and "no partner of that name" in noted


def test_r67_nothing_fused_is_an_error(folders, tmp_path, run):
    for path in folders[1].iterdir():
        path.write_text("text")
    status, said, noted = run("fuse", *folders, "-o", tmp_path / "out", "--on-bad", "skip")
    assert status == 2 and "0 of 3 images" in said and "error: nothing was fused" in noted
    assert [status for _, status in issues(tmp_path / "out")] == ["damaged"] * 3
    for path in folders[1].iterdir():
        path.rename(path.with_suffix(".xyz"))
    shutil.rmtree(folders[0])
    folders[0].mkdir()
    status, _, said = run("fuse", *folders, "-o", tmp_path / "more")
    assert status == 2 and "no pairs of images (.png, .jpg" in said and "3 files" in said
    assert not (tmp_path / "more").exists()


def test_r68_camera_names_are_paired_and_that_is_said(folders, tmp_path, run):
    for folder, side in zip(folders, "TW", strict=True):
        for number, path in enumerate(sorted(folder.iterdir())):
            path.rename(folder / f"DJI_{number:04d}_{side}.png")
    status, _, said = run("fuse", *folders, "-o", tmp_path / "out")
    assert status == 0 and said.startswith("warning: no names are equal: DJI_0000_T.png")
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == {
        "DJI_0000",
        "DJI_0001",
        "DJI_0002",
    }


def test_r68_a_list_gives_what_the_folders_give(folders, tmp_path, run):
    rows = "".join(f"ir/{name}.png;vi/{name}.png;{name}\n" for name in "abc")
    (tmp_path / "list.csv").write_text(f"ir;vi;name\n{rows}")
    assert run("fuse", *folders, "-o", tmp_path / "one")[0] == 0
    status, said, _ = run("fuse", "--pairs", tmp_path / "list.csv", "-o", tmp_path / "two")
    assert status == 0 and "3 of 3" in said
    one, two = (contents(tmp_path / name) for name in ("one", "two"))
    assert list(one.values()) == list(two.values()) and len(one) == 5
    for more in (folders, folders[:1]):
        status, _, said = run("fuse", *more, "--pairs", tmp_path / "list.csv", "-o", tmp_path / "x")
        assert status == 2 and "or --pairs" in said


# --- Going on -------------------------------------------------------------------------------------


def test_r71_a_resumed_folder_is_byte_identical(folders, tmp_path, run, monkeypatch):
    Image.open(folders[0] / "a.png").resize((16, 12)).save(folders[0] / "a.png")
    options = ("--resize", "ir-to-vi", "--ir-range", "0", "200")
    assert run("fuse", *folders, "-o", tmp_path / "whole", *options)[0] == 0
    out, saved = tmp_path / "part", []

    def interrupted(path, image, **like):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(path)
        return save_image(path, image, **like)

    monkeypatch.setattr(inference, "save_image", interrupted)
    assert run("fuse", *folders, "-o", out, *options)[0] == 130
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "fused.json"]
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    monkeypatch.setattr(inference, "save_image", save_image)
    status, said, _ = run("fuse", *folders, "-o", out, *options, "--skip-existing")
    assert status == 0 and "3 of 3 images" in said and "2 of them were there" in said
    assert before.items() <= {path: path.stat().st_mtime_ns for path in out.iterdir()}.items()
    one, two = (contents(tmp_path / name) for name in ("whole", "part"))
    assert list(one.values()) == list(two.values()) and len(one) == 5
    assert ("a", "resized") in issues(out)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--grey",), "grey was False, is True"),
        (("--ir-range", "0", "100"), "ir_range was None, is [0.0, 100.0]"),
        (("--ir-invert",), "ir_invert was False, is True"),
        (("--precision", "bf16"), "precision was fp32, is bf16"),
    ],
)
def test_r71_other_options_are_refused_with_the_difference(folders, tmp_path, run, option, said):
    out = tmp_path / "out"
    assert run("fuse", *folders, "-o", out, "--skip-existing")[0] == 0  # nothing there: all new
    before = contents(out)
    status, _, told = run("fuse", *folders, "-o", out, *option, "--skip-existing")
    assert status == 2 and said in told and contents(out) == before


def test_r71_other_weights_and_unknown_results_are_refused(folders, tmp_path, run):
    out = tmp_path / "out"
    assert run("fuse", *folders, "-o", out)[0] == 0
    record = json.loads((out / "fused.json").read_text())
    (out / "fused.json").write_text(json.dumps(record | {"sha256": "0" * 64}))
    status, _, said = run("fuse", *folders, "-o", out, "--skip-existing")
    assert status == 2 and "sha256 was 0000" in said
    (out / "fused.json").unlink()
    status, _, said = run("fuse", *folders, "-o", out, "--skip-existing")
    assert status == 2 and "says what made" in said


def test_r71_results_of_an_older_run_with_other_options_are_made_anew(folders, tmp_path, run):
    out = tmp_path / "out"
    assert run("fuse", *folders, "-o", out, "--grey")[0] == 0
    grey = contents(out)
    for path in out.iterdir():  # fused anew in colour, which stopped after the first
        os.utime(path, ns=(0, 0))
    record = json.loads((out / "fused.json").read_text())
    (out / "fused.json").write_text(f"{json.dumps(record | {'grey': False}, indent=1)}\n")
    assert run("fuse", *folders, "-o", out, "--skip-existing")[0] == 0
    assert all(Image.open(path).mode == "RGB" for path in out.glob("*.png"))
    assert contents(out) != grey


def test_r71_cut_off_results_and_those_of_other_sources_are_made_anew(folders, tmp_path, run):
    out = tmp_path / "out"
    assert run("fuse", *folders, "-o", out)[0] == 0
    whole = contents(out)
    (out / "a.png").write_bytes((out / "a.png").read_bytes()[:300])
    assert run("fuse", *folders, "-o", out, "--skip-existing")[0] == 0
    assert contents(out) == whole
    source = Image.open(folders[0] / "b.png")
    source.transpose(Image.Transpose.ROTATE_180).save(folders[0] / "b.png")
    assert run("fuse", *folders, "-o", out, "--skip-existing")[0] == 0
    assert [path.name for path in whole if path.read_bytes() != whole[path]] == ["b.png"]


def test_r62_what_is_refused_leaves_nothing_and_the_advice_works(folders, tmp_path, run):
    for path in folders[0].iterdir():
        levels = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 4 + 7000
        Image.fromarray(levels).save(path)
    given = ("fuse", *folders, "-o", tmp_path / "out", "--skip-existing")
    status, _, said = run(*given)
    assert status == 2 and "--ir-range auto" in said and not (tmp_path / "out").exists()
    assert run(*given, "--ir-range", "auto")[0] == 0


# --- Levels ---------------------------------------------------------------------------------------


def test_one_range_is_found_for_a_folder_recorded_and_equal_to_giving_it(folders, tmp_path, run):
    for number, path in enumerate(sorted(folders[0].iterdir())):
        counts = 7000 + 300 * number + np.asarray(Image.open(path)).astype(np.uint16)
        Image.fromarray(counts).save(path)
    status, _, said = run("fuse", *folders, "-o", tmp_path / "raw")
    assert status == 2 and "--ir-range auto" in said
    status, _, said = run("fuse", "--ir-range", "auto", *folders, "-o", tmp_path / "auto")
    assert status == 0 and "found in 3 images: --ir-range 70" in said
    low, high = json.loads((tmp_path / "auto" / "fused.json").read_text())["ir_range"]
    assert 7000 <= low < 7010 and 7845 < high <= 7855
    assert run("fuse", *folders, "-o", tmp_path / "same", "--ir-range", low, high)[0] == 0
    one, two = (contents(tmp_path / name) for name in ("auto", "same"))
    assert list(one.values()) == list(two.values())
    (folders[0] / "b.png").write_text("text")
    skip = ("--on-bad", "skip", "--ir-range=auto")
    assert run("fuse", *folders, "-o", tmp_path / "less", *skip)[0] == 0


def test_r63_values_that_a_range_clips_stand_in_the_issues(folders, tmp_path, run):
    status, _, said = run("fuse", *folders, "-o", tmp_path / "out", "--ir-range", "100", "200")
    assert status == 0 and said.count("clipped: ") == 6 and "become black" in said
    assert issues(tmp_path / "out").count(("b", "clipped")) == 2
