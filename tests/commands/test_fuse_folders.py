"""``fusionlib fuse`` on folders and lists: what is left out, gone on with, never written over."""

import csv
import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusionlib import inference
from fusionlib.images import save_image
from fusionlib.weights import load_weights

load_once = functools.cache(inference.load_fuser)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Three pairs of 24×32 in ir/ and vi/."""
    monkeypatch.setattr(inference, "load_fuser", load_once)  # takes longer than fusing these
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        save_image(tmp_path / "ir" / f"{name}.png", rng.random((24, 32)))
        save_image(tmp_path / "vi" / f"{name}.png", rng.random((24, 32, 3)))
    return tmp_path / "ir", tmp_path / "vi"


@pytest.fixture
def fuse(folders, tmp_path, run):
    """Fuse both folders into ``out``, with options: status, stdout, stderr."""
    return lambda *options, out="out": run("fuse", *folders, "-o", tmp_path / out, *options)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def issues(folder):
    with (folder / "issues.csv").open(newline="", encoding="utf-8") as file:
        return [(row["name"], row["status"]) for row in csv.DictReader(file)]


def record(folder):
    return json.loads((folder / "fused.json").read_text(encoding="utf-8"))


def assert_equal_results(one, two, files=5):
    one, two = (list(contents(folder).values()) for folder in (one, two))
    assert one == two and len(one) == files


# --- Nothing is destroyed -------------------------------------------------------------------------


def linked(make, name):
    """Another way to a source: a link to it, or to its folder."""

    def link(source, folder):
        make(source, folder / "link.png")
        return folder / "link.png" / name(source)

    return link


SPELLINGS = {
    "as it is": lambda source, folder: source,
    "relative": lambda source, folder: Path(os.path.relpath(source)),
    "hard link": linked(os.link, lambda source: ""),
    "linked folder": linked(
        lambda source, link: link.symlink_to(source.parent), lambda source: source.name
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_r65_a_target_that_is_a_source_is_an_error_by_any_spelling(
    folders, tmp_path, run, spelling
):
    pair = [folder / "a.png" for folder in folders]
    source = pair[len(spelling) % 2]
    target = SPELLINGS[spelling](source, tmp_path)
    before = contents(tmp_path)
    status, _, said = run("fuse", *pair, "-o", target)
    assert status == 2 and "is the source" in said and str(source) in said
    assert contents(tmp_path) == before


def test_r65_the_folder_of_sources_is_no_place_for_results(folders, fuse, tmp_path, run, out):
    (tmp_path / "list.csv").write_text("ir,vi,name\nir/a.png,vi/a.png,new\n")
    (tmp_path / "link").symlink_to(tmp_path / "vi")
    before = contents(tmp_path)
    told = [fuse(out=name) for name in ("ir", "link", "ir/../vi")]
    told += [run("fuse", "--pairs", tmp_path / "list.csv", "-o", tmp_path / "ir")]
    for status, _, said in told:
        assert status == 2 and "folder of source images" in said
    out.mkdir()
    (out / "c.png").symlink_to(folders[1] / "b.png")
    status, _, said = fuse()
    assert status == 2 and "is the source" in said and "b.png" in said
    (out / "c.png").unlink()
    assert contents(tmp_path) == before


# --- What is left out, camera names, lists --------------------------------------------------------


def test_r04_damaged_pairs_are_left_out_on_request_and_reported(folders, fuse, out):
    (folders[1] / "b.png").write_text("text")
    status, _, told = fuse()
    assert status == 2 and "b.png" in told and not out.exists()
    options = ("--ir-range", "10", "200", "--precision", "bf16")
    status, said, told = fuse("--on-bad", "skip", *options)
    assert status == 0 and "2 of 3 images" in said and "damaged: b: " in told
    assert ("b", "damaged") in issues(out)
    used = record(out)
    assert used["ir_range"] == [10, 200] and used["resize"] is None  # rows 3 and 6: recorded
    assert used["sha256"] == load_weights().sha256 and used["precision"] == "bf16"
    assert used["vi_range"] is None and used["ir_invert"] is False and used["threads"] >= 1
    assert sorted(path.stem for path in out.glob("*.png")) == ["a", "c"]


def test_r67_files_left_out_are_named_with_the_reason(folders, fuse, tmp_path, out):
    for name in ("scan.jp2", ".hidden.png"):
        (folders[0] / name).touch()
    (folders[1] / "more").mkdir()
    save_image(folders[0] / "lonely.png", np.zeros((9, 9)))
    (folders[0] / "a.png").rename(tmp_path / "elsewhere.png")
    (folders[0] / "a.png").symlink_to(tmp_path / "elsewhere.png")
    status, _, said = fuse()
    assert status == 2 and "--follow-links" in said  # row 18
    status, _, said = fuse("--follow-links")
    assert status == 2 and "only in" in said and "lonely.png" in said
    assert "--on-bad skip" in said and "--pairs list.csv" in said
    status, said, noted = fuse("--on-bad", "skip", "--follow-links")
    assert status == 0 and "3 of 3 images" in said
    names = [".hidden.png", "scan.jp2", "more", "lonely.png"]
    assert issues(out) == [(name, "left out") for name in names]
    for name, reason in zip(names, ("hidden", "none of", "a folder", "no partner"), strict=True):
        assert f"/{name}: {reason}" in noted


def test_r67_nothing_fused_is_an_error(folders, fuse, tmp_path, out):
    for path in folders[1].iterdir():
        path.write_text("text")
    status, said, noted = fuse("--on-bad", "skip")
    assert status == 2 and "0 of 3 images" in said and "error: nothing was fused" in noted
    assert [status for _, status in issues(out)] == ["damaged"] * 3
    for path in [path for folder in folders for path in folder.iterdir()]:
        path.rename(path.with_suffix(".xyz"))
    status, _, said = fuse(out="more")
    assert status == 2 and "no pairs of images (.png, .jpg" in said and "6 files" in said
    assert not (tmp_path / "more").exists()


def test_r68_camera_names_are_paired_and_that_is_said(folders, fuse, out):
    for folder, side in zip(folders, "TW", strict=True):
        for number, path in enumerate(sorted(folder.iterdir())):
            path.rename(folder / f"DJI_{number:04d}_{side}.png")
    status, _, said = fuse()
    assert status == 0 and said.startswith("warning: no names are equal: DJI_0000_T.png")
    assert sorted(path.stem for path in out.glob("*.png")) == [f"DJI_000{n}" for n in range(3)]


def test_r68_a_list_gives_what_the_folders_give(folders, fuse, tmp_path, run, out):
    rows = "".join(f"ir/{name}.png;vi/{name}.png;{name}\n" for name in "abc")
    (tmp_path / "list.csv").write_text(f"ir;vi;name\n{rows}")
    assert fuse("--grey")[0] == 0
    assert Image.open(out / "a.png").mode == "L"
    listed = ("--pairs", tmp_path / "list.csv", "-o", tmp_path / "two", "--grey")
    status, said, _ = run("fuse", *listed)
    assert status == 0 and "3 of 3" in said
    assert_equal_results(out, tmp_path / "two")
    for more in (folders, folders[:1]):
        status, _, said = run("fuse", *more, *listed)
        assert status == 2 and "or --pairs" in said


# --- Going on -------------------------------------------------------------------------------------


def test_r71_a_resumed_folder_is_byte_identical(folders, fuse, tmp_path, out, monkeypatch):
    Image.open(folders[0] / "a.png").resize((16, 12)).save(folders[0] / "a.png")
    options, saved = ("--resize", "ir-to-vi", "--ir-range", "0", "200"), []
    assert fuse(*options, out="whole")[0] == 0

    def interrupted(path, image, **like):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(path)
        return save_image(path, image, **like)

    monkeypatch.setattr(inference, "save_image", interrupted)
    assert fuse(*options)[0] == 130
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "fused.json"]
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    monkeypatch.setattr(inference, "save_image", save_image)
    status, said, _ = fuse(*options, "--skip-existing")
    assert status == 0 and "3 of 3 images" in said and "2 of them were there" in said
    assert before.items() <= {path: path.stat().st_mtime_ns for path in out.iterdir()}.items()
    assert_equal_results(tmp_path / "whole", out)
    assert ("a", "resized") in issues(out)


def test_r71_other_options_are_refused_with_the_difference(fuse, out):
    assert fuse("--skip-existing")[0] == 0  # nothing there: all new
    before = contents(out)
    for option, said in (
        (("--grey",), "grey was False, is True"),
        (("--ir-range", "0", "100"), "ir_range was None, is [0.0, 100.0]"),
        (("--ir-invert",), "ir_invert was False, is True"),
        (("--precision", "bf16"), "precision was fp32, is bf16"),
    ):
        status, _, told = fuse(*option, "--skip-existing")
        assert status == 2 and said in told and contents(out) == before
    (out / "fused.json").write_text(json.dumps(record(out) | {"sha256": "0" * 64}))
    status, _, said = fuse("--skip-existing")
    assert status == 2 and "sha256 was 0000" in said
    (out / "fused.json").unlink()
    status, _, said = fuse("--skip-existing")
    assert status == 2 and "says what made" in said


def test_r71_results_of_other_options_or_sources_and_cut_off_ones_are_made_anew(folders, fuse, out):
    assert fuse("--grey")[0] == 0
    for path in out.iterdir():  # fused anew in colour, which stopped after the first
        os.utime(path, ns=(0, 0))
    (out / "fused.json").write_text(f"{json.dumps(record(out) | {'grey': False}, indent=1)}\n")
    assert fuse("--skip-existing")[0] == 0
    assert {Image.open(path).mode for path in out.glob("*.png")} == {"RGB"}
    whole = contents(out)
    (out / "a.png").write_bytes((out / "a.png").read_bytes()[:300])
    assert fuse("--skip-existing")[0] == 0
    assert contents(out) == whole
    source = Image.open(folders[0] / "b.png")
    source.transpose(Image.Transpose.ROTATE_180).save(folders[0] / "b.png")
    assert fuse("--skip-existing")[0] == 0
    assert [path.name for path in whole if path.read_bytes() != whole[path]] == ["b.png"]


# --- Levels ---------------------------------------------------------------------------------------


def test_r62_one_range_is_found_for_a_folder_recorded_and_equal_to_giving_it(
    folders, fuse, tmp_path, run, out
):
    for number, path in enumerate(sorted(folders[0].iterdir())):
        counts = 7000 + 300 * number + np.asarray(Image.open(path)).astype(np.uint16)
        Image.fromarray(counts).save(path)
    status, _, said = fuse("--skip-existing")
    assert status == 2 and "--ir-range auto" in said and not out.exists()
    status, _, said = run("fuse", "--ir-range", "auto", *folders, "-o", out, "--skip-existing")
    assert status == 0 and "found in 3 images: --ir-range 70" in said
    low, high = record(out)["ir_range"]
    assert 7000 <= low < 7010 and 7845 < high <= 7855
    assert fuse("--ir-range", low, high, out="same")[0] == 0
    assert_equal_results(out, tmp_path / "same")
    (folders[0] / "b.png").write_text("text")
    assert fuse("--on-bad", "skip", "--ir-range=auto", out="less")[0] == 0


def test_r11_a_first_picture_is_said_once_also_if_a_range_is_looked_for(folders, fuse, out):
    for path in list(folders[0].iterdir()):
        image = Image.open(path)
        image.save(path.with_suffix(".jpg"), "MPO", save_all=True, append_images=[image])
        path.unlink()
    status, _, said = fuse("--ir-range", "auto")
    assert status == 0 and said.count("first of its 2 pictures") == 3
    assert issues(out).count(("a", "frame")) == 1


def test_r63_values_that_a_range_clips_stand_in_the_issues(fuse, out):
    status, _, said = fuse("--ir-range", "100", "200")
    assert status == 0 and said.count("clipped: ") == 6 and "become black" in said
    assert issues(out).count(("b", "clipped")) == 2
