import csv
import hashlib
import os
import re
import runpy
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from fusionlib import datasets
from fusionlib.datasets import DATASETS, REAL, Pair, check_pair, find_pairs, load_pair, pair_folders
from fusionlib.errors import DatasetError, ImageError, PairError
from fusionlib.images import save_image
from fusionlib.splits import SPLITS, Listed, draw_split, read_list, read_split, split_pairs, status

PAPER = {"RoadScene": (200, 20), "LLVIP": (201, 20), "MSRS": (217, 20), "M3FD": (230, 20)}
write_list = runpy.run_path(str(SPLITS / "draw.py"))["write_list"]
COMMITTED = sorted(path.stem for path in SPLITS.glob("*.csv"))


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def fake(names, dataset="RoadScene"):
    return [Pair(dataset, name, Path("ir", name), Path("vi", name)) for name in names]


def members(parts, *wanted):
    return {name for name, part in parts.items() if part in wanted}


def rows(dataset):
    """A committed list, read without the package."""
    with (SPLITS / f"{dataset}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folders(tmp_path):
    """Two empty folders."""
    touch(tmp_path / "ir")
    touch(tmp_path / "vi")
    return tmp_path / "ir", tmp_path / "vi"


@pytest.fixture
def pair(folders):
    """Write two arrays as a pair."""
    ir, vi = folders

    def write(first, second):
        return Pair("", "a", save_image(ir / "a.png", first), save_image(vi / "a.png", second))

    return write


def llvip(*cameras, each):
    return [f"{camera:02d}{frame:04d}" for camera in cameras for frame in range(each)]


def many(dataset, count=1000):
    """As many names as asked for, in the manner of the dataset."""
    if dataset == "LLVIP":
        return llvip(*range(1, 26), each=-(-count // 25))[:count]
    if dataset == "MSRS":
        return sorted(
            ["00427D", "00927N", *(f"{i:05d}{'DN'[i % 2]}" for i in range(1000, 998 + count))]
        )
    return [f"{i:05d}" for i in range(count)]


# Pairing


def test_pairs_are_sorted_and_carry_name_and_dataset(folders):
    ir, vi = folders
    touch(ir, "b.png", "a.png", "c.png")
    touch(vi, "c.png", "b.png", "a.png")
    assert pair_folders(str(ir), str(vi), "TNO") == [
        Pair("TNO", name, ir / f"{name}.png", vi / f"{name}.png") for name in "abc"
    ]


def test_no_images_are_no_pairs(folders):
    assert pair_folders(*folders) == []


def test_missing_folder_is_an_error(folders, tmp_path):
    for arguments in ((tmp_path / "gone", folders[1]), (folders[0], tmp_path / "gone")):
        with pytest.raises(DatasetError, match="gone: no such folder"):
            pair_folders(*arguments)


def test_other_and_hidden_files_are_not_images(folders):
    ir, vi = folders
    touch(ir, "a.png", "TERMS.txt", ".DS_Store", "._a.png", ".1f2e.png", "Thumbs.db", "b.xml")
    touch(vi, "a.png", "labels.json")
    assert [pair.name for pair in pair_folders(ir, vi)] == ["a"]


def test_r01_differing_extensions_pair(folders):
    ir, vi = folders
    touch(ir, "a.png", "b.JPG", "c.tif", "d.bmp", "e.webp")
    touch(vi, "a.jpg", "b.png", "c.jpeg", "d.TIFF", "e.gif")
    assert [(pair.name, pair.ir.suffix, pair.vi.suffix) for pair in pair_folders(ir, vi)] == [
        ("a", ".png", ".jpg"),
        ("b", ".JPG", ".png"),
        ("c", ".tif", ".jpeg"),
        ("d", ".bmp", ".TIFF"),
        ("e", ".webp", ".gif"),
    ]


def test_r01_orphans_of_both_sides_are_listed_ten_then_counted(folders):
    ir, vi = folders
    touch(ir, "both.png", *(f"i{n:02d}.png" for n in range(12)))
    touch(vi, "both.png", *(f"v{n:02d}.jpg" for n in range(10)))
    with pytest.raises(PairError) as caught:
        pair_folders(ir, vi)
    message = str(caught.value)
    first, second = message.split("; ")
    assert first.startswith(f"only in {ir}: i00.png, i01.png")
    assert first.endswith("i09.png and 2 more")
    assert second.startswith(f"only in {vi}: v00.jpg")
    assert re.findall(r"[iv]\d\d\.\w+", message) == [
        *(f"i{n:02d}.png" for n in range(10)),
        *(f"v{n:02d}.jpg" for n in range(10)),
    ]
    assert message.count("more") == 1
    assert "both.png" not in message


def test_r01_one_orphan_is_named_and_the_complete_side_is_not(folders):
    ir, vi = folders
    touch(ir, "a.png")
    touch(vi, "a.png", "lost.png")
    with pytest.raises(PairError) as caught:
        pair_folders(ir, vi)
    assert f"only in {vi}: lost.png." in str(caught.value)
    assert f"only in {ir}" not in str(caught.value)


@pytest.mark.parametrize("names", [("a.png", "a.jpg"), ("A.png", "a.png"), ("straße", "STRASSE")])
@pytest.mark.parametrize("side", [0, 1])
def test_r02_same_stem_twice_is_ambiguous(folders, side, names):
    names = [name if "." in name else f"{name}.png" for name in names]
    touch(folders[side], *names)
    if len(list(folders[side].iterdir())) == 1:
        pytest.skip("this file system does not tell upper from lower case")
    touch(folders[1 - side], names[0])
    with pytest.raises(PairError, match="one stem") as caught:
        pair_folders(*folders)
    assert all(name in str(caught.value) for name in names)


def test_r02_composed_and_decomposed_in_one_folder_are_ambiguous(folders):
    touch(folders[0], "\u00e9.png", "e\u0301.png")
    if len(list(folders[0].iterdir())) == 1:
        pytest.skip("this file system does not tell the two apart")
    with pytest.raises(PairError, match="one stem"):
        pair_folders(*folders)


def test_r19_unusual_names_pair_up(folders):
    names = ["two words", "-x", "--help", "Straße", "夜", "a.b", "n" * 251, "100%", "{x}", "a'b"]
    for folder in folders:
        touch(folder, *(f"{name}.png" for name in names))
    assert [pair.name for pair in pair_folders(*folders)] == sorted(names)


def test_r19_composed_pairs_with_decomposed_whatever_the_order(folders):
    ir, vi = folders
    composed = ["\u00e91", "f1", "z1"]  # é sorts after z, and e + accent before f
    decomposed = [unicodedata.normalize("NFD", name) for name in composed]
    assert decomposed[0] != composed[0]
    touch(ir, *(f"{name}.png" for name in composed))
    touch(vi, *(f"{name}.png" for name in decomposed))
    for pairs in (pair_folders(ir, vi), pair_folders(vi, ir)):
        assert [pair.name for pair in pairs] == ["f1", "z1", "\u00e91"]  # never decomposed
        for pair in pairs:
            assert pair.ir.is_file() and pair.vi.is_file()
            for path in (pair.ir, pair.vi):
                assert unicodedata.normalize("NFC", path.stem) == pair.name


@pytest.mark.parametrize("name", ["two\nlines", "tab\tbed", "line\u2028break", "back\\slash"])
def test_r19_line_breaks_and_separators_are_refused(folders, name):
    for folder in folders:
        touch(folder, f"{name}.png")
    with pytest.raises(PairError, match="rename"):
        pair_folders(*folders)


# Reading a pair


def test_pair_is_read_as_it_is(pair):
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    second = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    ir, vi = load_pair(pair(first, second))
    assert ir.dtype == vi.dtype == np.float32
    assert np.abs(ir - first / 255).max() < 1e-7
    assert np.abs(vi - second / 255).max() < 1e-7
    assert check_pair(pair(first, second)) == ""


@pytest.mark.parametrize("ir_size, vi_size", [((5, 7), (7, 5)), ((4, 6), (8, 12))])
def test_r03_differing_sizes_are_an_error_with_both(pair, ir_size, vi_size):
    written = pair(np.zeros(ir_size), np.zeros(vi_size))
    first, second = (f"{width}×{height}" for height, width in (ir_size, vi_size))
    with pytest.raises(PairError) as caught:
        load_pair(written)
    for word in (first, second, str(written.ir), str(written.vi), "--resize ir-to-vi"):
        assert word in str(caught.value)
    assert check_pair(written) == f"sizes differ: {first} and {second}"


@pytest.mark.parametrize("size", [(6, 8), (24, 32), (9, 50), (1, 1)])
def test_r03_infrared_is_brought_to_the_visible_size_on_request(pair, size):
    vi = np.random.default_rng(1).uniform(size=(12, 16, 3))
    ir = np.full(size, 0.4)
    got_ir, got_vi = load_pair(pair(ir, vi), resize="ir-to-vi")
    assert got_ir.shape == (12, 16)
    assert got_ir.dtype == np.float32
    assert np.abs(got_ir - 0.4).max() < 1e-6
    assert np.abs(got_vi - vi).max() <= 0.5 / 255 + 1e-6  # not touched


def test_r03_resizing_keeps_a_ramp_in_place(pair):
    ramp = np.arange(0, 240, 15, dtype=np.uint8)
    ir, _ = load_pair(pair(np.tile(ramp, (4, 1)), np.zeros((8, 32, 3))), resize="ir-to-vi")
    centres = (np.arange(32) + 0.5) / 2 - 0.5  # in the small image: bicubic keeps a straight line
    assert np.abs(ir[:, 4:-4] * 255 - 15 * centres[4:-4]).max() < 1e-3


def test_r03_resizing_does_not_overshoot(pair):
    step = np.repeat(np.array([[0, 0, 0, 1, 1, 1]], float), 6, axis=0)
    ir, _ = load_pair(pair(step, np.zeros((18, 18, 3))), resize="ir-to-vi")
    assert ir.min() == 0 and ir.max() == 1


def test_r03_equal_sizes_are_not_resampled(pair):
    ir = np.random.default_rng(2).integers(0, 256, (5, 7), dtype=np.uint8)
    written = pair(ir, np.zeros((5, 7, 3)))
    assert (load_pair(written, resize="ir-to-vi")[0] == load_pair(written)[0]).all()


def test_r04_damaged_half_is_named(pair):
    written = pair(np.zeros((5, 7)), np.zeros((5, 7, 3)))
    written.vi.write_bytes(written.vi.read_bytes()[:30])
    with pytest.raises(ImageError, match=re.escape(str(written.vi))):
        load_pair(written)
    assert str(written.vi) in check_pair(written)


def test_r06_range_reaches_the_infrared_reader_only(folders):
    ir, vi = folders
    Image.fromarray(np.array([[1000, 2000, 3000]], "<u2")).save(ir / "a.png")
    Image.fromarray(np.array([[0, 51, 255]], np.uint8)).save(vi / "a.png")
    [pair] = pair_folders(ir, vi)
    got_ir, got_vi = load_pair(pair, ir_range=(1000, 3000))
    assert got_ir.tolist() == [[0, 0.5, 1]]
    assert np.abs(got_vi[0, :, 0] - [0, 0.2, 1]).max() < 1e-7


def test_r12_orientation_of_one_half_alone_is_an_error(folders):
    ir, vi = folders
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    image.save(ir / "a.png", exif=exif)
    image.save(vi / "a.png")
    [pair] = pair_folders(ir, vi)
    with pytest.raises(PairError, match=r"3×4 .* 4×3"):
        load_pair(pair)
    assert check_pair(pair) == "sizes differ: 3×4 and 4×3"
    image.save(vi / "a.png", exif=exif)
    got_ir, got_vi = load_pair(pair)
    assert got_ir.shape == (4, 3)
    assert (got_ir == got_vi[:, :, 0]).all()
    assert check_pair(pair) == ""


# Layouts

LAYOUTS = {
    "ours": ("M3FD", [("ir", "vi")]),
    "RoadScene": ("RoadScene", [("cropinfrared", "crop_LR_visible")]),
    "MSRS": ("MSRS", [("train/ir", "train/vi"), ("test/ir", "test/vi")]),
    "MSRS test": ("MSRS", [("test/ir", "test/vi")]),
    "LLVIP": ("LLVIP", [("infrared/train", "visible/train"), ("infrared/test", "visible/test")]),
    "LLVIP train": ("LLVIP", [("infrared/train", "visible/train")]),
    "M3FD": ("M3FD", [("Ir", "Vis")]),
    "TNO": ("TNO", [("IR", "VIS")]),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layout_is_found(tmp_path, case):
    dataset, layout = LAYOUTS[case]
    folder = tmp_path / dataset
    expected = []
    for part, (ir, vi) in enumerate(layout):
        for name in (f"b{9 - part}", f"a{9 - part}"):  # names of later parts sort between
            touch(folder / ir, f"{name}.png")
            touch(folder / vi, f"{name}.jpg")
            pair = Pair(dataset, name, folder / ir / f"{name}.png", folder / vi / f"{name}.jpg")
            expected.append(pair)
    expected.sort(key=lambda pair: pair.name)
    assert find_pairs(tmp_path, dataset) == expected


@pytest.mark.parametrize("dataset", REAL)
def test_our_layout_is_found_for_every_dataset(tmp_path, dataset):
    touch(tmp_path / dataset / "ir", "a.png")
    touch(tmp_path / dataset / "vi", "a.png")
    assert [pair.ir for pair in find_pairs(str(tmp_path), dataset)] == [
        tmp_path / dataset / "ir" / "a.png"
    ]


def test_roadscene_high_resolution_is_never_used(tmp_path):
    folder = tmp_path / "RoadScene"
    touch(folder / "cropinfrared", "a.jpg")
    touch(folder / "crop_HR_visible", "a.jpg", "b.jpg")
    assert find_pairs(tmp_path, "RoadScene") == []
    touch(folder / "crop_LR_visible", "a.jpg")
    assert [pair.vi.parent.name for pair in find_pairs(tmp_path, "RoadScene")] == [
        "crop_LR_visible"
    ]


@pytest.mark.parametrize("dataset", DATASETS)
def test_absent_dataset_has_no_pairs(tmp_path, dataset):
    assert find_pairs(tmp_path, dataset) == []
    assert find_pairs(tmp_path / "gone", dataset) == []


@pytest.mark.parametrize("dataset", ["MSRS", "LLVIP"])
def test_name_in_two_parts_is_an_error(tmp_path, dataset):
    for ir, vi in LAYOUTS[dataset][1]:
        touch(tmp_path / dataset / ir, "same.png")
        touch(tmp_path / dataset / vi, "same.png")
    with pytest.raises(DatasetError, match=r"same stands both in .*train.* and .*test"):
        find_pairs(tmp_path, dataset)


def test_one_folder_under_two_names_counts_once(tmp_path):
    folder = tmp_path / "TNO"
    touch(folder / "ir", "a.png")
    touch(folder / "vi", "a.png")
    for name, target in (("IR", "ir"), ("VIS", "vi")):
        if not (folder / name).exists():
            (folder / name).symlink_to(target)
    assert [pair.name for pair in find_pairs(tmp_path, "TNO")] == ["a"]


def test_r01_orphans_inside_a_dataset_are_an_error(tmp_path):
    touch(tmp_path / "MSRS" / "train" / "ir", "a.png", "b.png")
    touch(tmp_path / "MSRS" / "train" / "vi", "a.png")
    with pytest.raises(PairError, match=r"b\.png"):
        find_pairs(tmp_path, "MSRS")


@pytest.mark.parametrize(
    "call",
    [
        lambda: find_pairs("anywhere", "FLIR"),
        lambda: draw_split([], "FLIR"),
        lambda: read_split("../FLIR"),
        lambda: split_pairs([], "FLIR"),
        lambda: write_list([], "FLIR", "anywhere"),
    ],
)
def test_unknown_dataset_is_an_error_that_lists_the_known(call):
    with pytest.raises(DatasetError, match=r"FLIR.*RoadScene, LLVIP, MSRS, M3FD, TNO"):
        call()


def test_default_root_is_the_environments_or_ours(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSIONLIB_DATA", str(tmp_path))
    assert datasets.default_root() == tmp_path
    monkeypatch.setenv("FUSIONLIB_DATA", "~/images")
    assert datasets.default_root() == Path.home() / "images"
    for unset in (lambda: monkeypatch.setenv("FUSIONLIB_DATA", ""), monkeypatch.undo):
        unset()
        if not os.environ.get("FUSIONLIB_DATA"):
            assert datasets.default_root() == SPLITS.parent / "images"


def test_drawn_scenes_are_no_folder_but_one_of_that_name_can_be_given(monkeypatch, tmp_path):
    monkeypatch.setenv("FUSIONLIB_DATA", "synthetic")
    assert datasets.chosen_root() is None
    with pytest.raises(DatasetError, match=r"'synthetic' means the drawn scenes.*\./synthetic"):
        datasets.default_root()
    assert datasets.default_root(tmp_path) == tmp_path  # what is given comes first
    monkeypatch.setenv("FUSIONLIB_DATA", str(tmp_path))
    assert datasets.chosen_root("synthetic") is None
    assert datasets.chosen_root("./synthetic") == Path("synthetic")


# Drawing splits


@pytest.mark.parametrize("dataset", PAPER)
def test_enough_pairs_give_the_counts_of_the_paper(dataset):
    names = many(dataset)
    assert len(names) == 1000
    parts = draw_split(names, dataset)
    assert list(parts) == names  # all, sorted
    count = Counter(parts.values())
    train, test = PAPER[dataset]
    assert (count["train"] + count["val"], count["test"]) == (train, test)
    assert count["val"] == {200: 10, 201: 10, 217: 11, 230: 12}[train]  # one in twenty


def test_tno_is_never_trained_on():
    for count in (0, 1, 9, 55, 64):
        parts = draw_split(many("TNO", count), "TNO")
        assert Counter(parts.values())["test"] == min(count, 55)
        assert members(parts, "train", "val") == set()


@pytest.mark.parametrize("dataset", ["RoadScene", "M3FD", "MSRS"])
@pytest.mark.parametrize("count", [*range(0, 12), 39, 40, 41, 60, 219])
def test_fewer_pairs_give_at_most_half_to_the_test(dataset, count):
    parts = draw_split([f"{i:05d}" for i in range(count)], dataset)
    test, train = members(parts, "test"), members(parts, "train", "val")
    assert len(test) == min(20, count // 2)
    assert len(train) == min(count - len(test), PAPER[dataset][0])
    validation = len(members(parts, "val"))
    assert validation == (max(round(len(train) / 20), 1) if len(train) > 1 else 0)


def test_draw_depends_neither_on_order_nor_on_repetition():
    names = many("M3FD", 100)
    expected = draw_split(names, "M3FD")
    assert draw_split([*reversed(names), *names[:50]], "M3FD") == expected
    assert draw_split(iter(names), "M3FD") == expected


def test_draw_is_no_run_of_neighbours_and_differs_between_datasets():
    names = many("M3FD")
    tests = {name: members(draw_split(names, name), "test") for name in ("M3FD", "RoadScene")}
    assert tests["M3FD"] != tests["RoadScene"]
    numbers = sorted(int(name) for name in tests["M3FD"])
    assert numbers[0] < 250 and numbers[-1] > 750


@pytest.mark.parametrize("dataset", ["RoadScene", "M3FD"])
def test_draw_of_a_name_does_not_depend_on_the_others(dataset):
    names = many(dataset, 600)
    few, all_of_them = (draw_split(some, dataset) for some in (names[:300], names))
    # more names can push a pair out of the twenty test pairs, but none of the old ones into them
    assert members(all_of_them, "test") & set(names[:300]) <= members(few, "test")
    order = [name for name in names[:300] if few[name] == "test"]
    without = draw_split([name for name in names[:300] if name != order[0]], dataset)
    assert len(members(without, "test") - set(order)) == 1
    assert set(order[1:]) < members(without, "test")


def test_pinned_names_of_msrs_are_test_pairs():
    for count in (4, 10, 20, 30, 60, 500, 1000):
        parts = draw_split(many("MSRS", count), "MSRS")
        assert parts["00427D"] == parts["00927N"] == "test"
        assert len(members(parts, "test")) == min(20, count // 2)  # they count, and only once
    assert len(members(draw_split(many("MSRS", 2), "MSRS"), "test")) == 1  # half
    assert "00427D" not in draw_split(["1", "2", "3", "4"], "MSRS")


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(
    st.dictionaries(st.integers(1, 26), st.integers(1, 40), max_size=12),
    st.sampled_from([0, 1, 7]),
)
def test_r23_llvip_cameras_are_never_shared_between_train_and_test(frames, kept):
    names = [name for camera, each in frames.items() for name in llvip(camera, each=each)]
    parts = draw_split(names, "LLVIP", dict.fromkeys(names[:kept], Listed("test")))
    test, train = members(parts, "test"), members(parts, "train", "val")
    assert not {name[:2] for name in test} & {name[:2] for name in train}
    assert parts.keys() == set(names)
    if kept and names:
        assert test == set(names[:kept])
    else:
        assert len(test) == min(20, len(names) // 2)


def test_llvip_smallest_scenes_are_tested_first():
    names = [*llvip(1, each=4), *llvip(2, each=16), *llvip(3, each=100)]
    parts = draw_split(names, "LLVIP")
    assert members(parts, "test") == {*llvip(1, each=4), *llvip(2, each=16)}
    assert members(parts, "train", "val") == set(llvip(3, each=100))


def test_given_test_names_are_kept_and_their_scene_barred():
    names = [*llvip(1, each=30), *llvip(2, each=10)]
    parts = draw_split(names, "LLVIP", {"010003": Listed("test")})
    assert members(parts, "test") == {"010003"}
    assert members(parts, "") == set(llvip(1, each=30)) - {"010003"}
    assert members(parts, "train", "val") == set(llvip(2, each=10))


def test_r23_listed_scenes_decide_and_not_the_prefix():
    names = llvip(1, 2, 3, each=6)
    listed = {name: Listed("", scene="gate") for name in llvip(1, each=4)}
    listed |= {name: Listed("", scene="yard") for name in llvip(2, each=6)}
    listed |= {name: Listed("test", scene="yard") for name in llvip(1, each=6)[4:5]}
    parts = draw_split(names, "LLVIP", listed)
    assert members(parts, "test") == {"010004"}
    assert members(parts, "train", "val") == {*llvip(1, each=4), *llvip(3, each=6)}
    assert parts["010005"] == ""  # not listed: it may show the gate or the yard
    alone = draw_split([name for name in names if name != "010004"], "LLVIP", listed)
    shown = {name: row.scene for name, row in listed.items()} | dict.fromkeys(llvip(3, each=6))
    test, train = ({shown[n] for n in members(alone, *p)} for p in (["test"], ["train", "val"]))
    assert test and train and not test & train


def test_listed_validation_pairs_go_on_validating():
    names = many("M3FD", 60)
    drawn = draw_split(names, "M3FD")
    kept = sorted(members(drawn, "train"))[:2]
    parts = draw_split(names, "M3FD", {name: Listed("val") for name in kept})
    assert members(parts, "val") == set(kept)
    assert members(parts, "test") == members(drawn, "test")


# Committed lists


def commit(folder, dataset, parts):
    lines = ["name,split", *(f"{name},{part}" for name, part in parts.items())]
    (folder / f"{dataset}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def names_of(parts):
    return {part: [pair.name for pair in pairs] for part, pairs in parts.items()}


def test_committed_list_decides_when_all_its_pairs_are_present(tmp_path):
    names = many("RoadScene", 40)
    drawn = draw_split(names, "RoadScene")
    swap = {"test": "train", "train": "test", "val": ""}
    listed = {name: swap[part] for name, part in drawn.items()}
    commit(tmp_path, "RoadScene", listed)
    got = split_pairs(fake(reversed(names)), "RoadScene", tmp_path)
    assert names_of(got) == {
        part: sorted(members(listed, part)) for part in ("train", "val", "test")
    }
    assert all(pair in fake(names) for part in got.values() for pair in part)


def test_test_list_is_stable_when_pairs_are_added(tmp_path):
    names = many("RoadScene", 300)
    listed = {name: "test" if name in names[5:25] else "train" for name in names[:100]}
    commit(tmp_path, "RoadScene", listed)
    for present in (names, names[:101], [*names[5:25], *names[50:80]]):
        got = names_of(split_pairs(fake(present), "RoadScene", tmp_path))
        assert got["test"] == names[5:25]
        assert len(got["train"]) + len(got["val"]) == min(len(present) - 20, 200)
        assert not set(got["test"]) & {*got["train"], *got["val"]}
    rule = names_of(split_pairs(fake(names), "RoadScene", tmp_path / "none"))
    assert rule["test"] != names[5:25]  # so it was the list that decided above


def test_incomplete_test_list_is_drawn_anew(tmp_path):
    names = many("RoadScene", 60)
    commit(
        tmp_path, "RoadScene", {name: "test" if name in names[:20] else "train" for name in names}
    )
    got = names_of(split_pairs(fake(names[1:]), "RoadScene", tmp_path))
    assert got == names_of(split_pairs(fake(names[1:]), "RoadScene", tmp_path / "none"))
    assert len(got["test"]) == 20
    assert names[0] not in [*got["train"], *got["val"], *got["test"]]


@pytest.mark.parametrize("dataset", REAL)
def test_no_pairs_give_an_empty_split(dataset):
    assert split_pairs([], dataset) == {"train": [], "val": [], "test": []}


def test_missing_list_is_empty(tmp_path):
    assert read_split("RoadScene", tmp_path) == {}


@pytest.mark.parametrize(
    "text",
    [
        "name,split\na,train\na,test\n",
        "name,split\na,training\n",
        "name,split\na\n",
        "stem,split\na,train\n",
        "name,part\na,train\n",
    ],
    ids=["twice", "unknown part", "short row", "no name", "no split"],
)
def test_contradictory_list_is_an_error(tmp_path, text):
    (tmp_path / "RoadScene.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"RoadScene\.csv"):
        read_split("RoadScene", tmp_path)


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/b", "a\\b", "..", ".", "", '"a\nb"', "a\0b"])
def test_r19_names_that_are_paths_are_refused_in_a_list(tmp_path, name):
    (tmp_path / "RoadScene.csv").write_text(f"name,split\n{name},train\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="not the name of a pair"):
        read_split("RoadScene", tmp_path)


# Writing lists


def tiny(folder, dataset, names):
    """Pairs of images that all differ."""
    pairs = []
    for n, name in enumerate(names):
        paths = [folder / side / f"{name}.png" for side in ("ir", "vi")]
        for side, path in enumerate(paths):
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.array([[n, side, 7]], np.uint8)).save(path)
        pairs.append(Pair(dataset, name, *paths))
    return pairs


def sha256(levels):
    return hashlib.sha256(f"|u1{levels.shape}".encode() + levels.tobytes()).hexdigest()


def test_r19_unusual_names_stand_in_a_list(tmp_path):
    names = ["-x", "100%", "a.b", "two words", "Straße é", "夜", 'a"b', "a,b"]
    write_list(tiny(tmp_path, "M3FD", names), "M3FD", tmp_path)
    assert read_split("M3FD", tmp_path).keys() == set(names)


@pytest.fixture
def numbered(tmp_path):
    return tiny(tmp_path, "M3FD", many("M3FD", 50))


def test_written_list_reads_back_and_carries_hashes(numbered, tmp_path):
    path = write_list(numbered, "M3FD", tmp_path / "new" / "splits")
    assert path == tmp_path / "new" / "splits" / "M3FD.csv"
    assert os.listdir(path.parent) == ["M3FD.csv"]
    assert read_split("M3FD", path.parent) == draw_split([p.name for p in numbered], "M3FD")
    with path.open(newline="", encoding="utf-8") as file:
        for n, (row, pair) in enumerate(zip(csv.DictReader(file), numbered, strict=True)):
            assert row["name"] == pair.name
            assert row["sha256_ir"] == sha256(np.array([[n, 0, 7]], np.uint8))
            assert row["sha256_vi"] == sha256(np.array([[n, 1, 7]], np.uint8))
    assert b"\r" not in path.read_bytes()


def test_list_drawn_again_keeps_test_validation_and_scenes(tmp_path):
    pairs = tiny(tmp_path, "LLVIP", llvip(1, 2, 3, each=14))
    first = write_list(pairs[:28], "LLVIP", tmp_path)
    scenes = [f"{line},s{line[:2]}" for line in first.read_text().splitlines()[1:]]
    first.write_text("\n".join(["name,split,sha256_ir,sha256_vi,scene", *scenes]) + "\n")
    old = read_list("LLVIP", tmp_path)
    new = read_list("LLVIP", write_list(pairs, "LLVIP", tmp_path).parent)
    assert {name: row.scene for name, row in old.items()}.items() <= {
        name: row.scene for name, row in new.items()
    }.items()
    for part in ("test", "val"):
        kept = {name for name, row in old.items() if row.split == part}
        assert kept and kept <= {name for name, row in new.items() if row.split == part}
    assert {new[pair.name].split for pair in pairs[28:]} == {"train"}


@pytest.mark.parametrize("side", ["ir", "vi"])
def test_r23_one_image_in_train_and_test_is_an_error(numbered, tmp_path, side):
    old = write_list(numbered, "M3FD", tmp_path).read_bytes()
    parts = read_split("M3FD", tmp_path)
    by_name = {pair.name: pair for pair in numbered}
    [test, *_], [train, other, *_] = members(parts, "test"), members(parts, "train")
    getattr(by_name[other], side).write_bytes(getattr(by_name[train], side).read_bytes())
    write_list(numbered, "M3FD", tmp_path / "two training pairs may")
    # the same pixels in another file: other bytes
    Image.open(getattr(by_name[test], side)).save(getattr(by_name[train], side), "TIFF")
    with pytest.raises(DatasetError, match="share an image") as caught:
        write_list(numbered, "M3FD", tmp_path)
    assert test in str(caught.value) and (train in str(caught.value))
    assert (tmp_path / "M3FD.csv").read_bytes() == old


# The lists that are committed


def test_every_real_dataset_has_a_list():
    assert set(REAL) <= set(COMMITTED) <= set(DATASETS)
    assert sum(len(rows(dataset)) for dataset in REAL) == 698


@pytest.mark.parametrize("dataset", COMMITTED)
def test_committed_list_is_read_whole(dataset):
    listed = {row["name"]: row["split"] for row in rows(dataset)}
    assert len(listed) == len(rows(dataset))
    assert list(listed) == sorted(listed)
    assert read_split(dataset) == listed
    assert len(members(listed, "test")) == DATASETS[dataset].test


@pytest.mark.parametrize("dataset", REAL)
def test_committed_list_is_what_the_rule_draws_and_carries_hashes(dataset):
    listed = {row["name"]: row["split"] for row in rows(dataset)}
    assert draw_split(listed, dataset, read_list(dataset)) == listed
    if dataset in ("RoadScene", "TNO"):  # what the others' rule started from has changed
        assert draw_split(listed, dataset) == listed
    for row in rows(dataset):
        assert re.fullmatch("[0-9a-f]{64}", row["sha256_ir"])
        assert re.fullmatch("[0-9a-f]{64}", row["sha256_vi"])


def test_committed_test_pairs_include_those_of_the_papers_figures():
    listed = {row["name"]: row["split"] for row in rows("MSRS")}
    assert listed["00427D"] == listed["00927N"] == "test"


@pytest.mark.parametrize("dataset", COMMITTED)
def test_r23_no_image_name_or_scene_in_both_train_and_test(dataset):
    learned, tested = set(), set()
    for row in rows(dataset):
        assert row.get("scene", "") or dataset != "LLVIP"
        marks = {row["name"].casefold(), row["sha256_ir"], row["sha256_vi"], row.get("scene", "")}
        if row["split"]:
            (tested if row["split"] == "test" else learned).update(marks - {""})
    assert tested
    assert not learned & tested


def test_r23_no_image_is_learned_in_one_dataset_and_tested_in_another():
    learned, tested = set(), set()
    for dataset in REAL:
        for row in rows(dataset):
            if row["split"]:
                side = tested if row["split"] == "test" else learned
                side.update((row["sha256_ir"], row["sha256_vi"]))
    assert len(tested) > 200 and len(learned) > 500
    assert not learned & tested


def test_r23_tno_is_listed_for_testing_only():
    assert {row["split"] for row in rows("TNO")} == {"test", ""}


# Status


def test_status_counts_what_is_there(tmp_path):
    listed = [row["name"] for row in rows("MSRS")]
    for side in ("ir", "vi"):
        touch(tmp_path / "MSRS" / side, *(f"{name}.png" for name in listed))
        touch(tmp_path / "M3FD" / side, *(f"{i}.png" for i in range(10)))
    table = {row["dataset"]: row for row in status(tmp_path)}
    assert list(table) == list(REAL)
    assert table["MSRS"] == {
        "dataset": "MSRS",
        "pairs": 237,
        "train": 217,
        "of it val": 11,
        "test": 20,
        "train (paper)": 217,
        "test (paper)": 20,
        "listed but missing": 0,
        "split": "committed",
    }
    assert table["M3FD"]["pairs"] == 10
    assert (table["M3FD"]["train"], table["M3FD"]["test"]) == (5, 5)
    assert (table["M3FD"]["listed but missing"], table["M3FD"]["split"]) == (76, "drawn")
    assert (table["TNO"]["pairs"], table["TNO"]["listed but missing"]) == (0, 64)
    assert table["TNO"]["split"] == "drawn"


# The images themselves, where they are


@pytest.fixture(scope="module")
def real_pairs():
    root = Path(os.environ.get("FUSIONLIB_DATA") or "not set")
    if not root.is_dir():
        pytest.skip("FUSIONLIB_DATA names no folder")
    return {dataset: find_pairs(root, dataset) for dataset in REAL}


def test_real_datasets_are_those_of_the_lists(real_pairs):
    counts = {dataset: len(pairs) for dataset, pairs in real_pairs.items()}
    assert counts == {"RoadScene": 221, "LLVIP": 100, "MSRS": 237, "M3FD": 76, "TNO": 64}
    for dataset, pairs in real_pairs.items():
        assert {pair.name for pair in pairs} == read_split(dataset).keys()


@pytest.mark.parametrize("dataset", REAL)
def test_real_pairs_fit_and_are_the_listed_images(real_pairs, dataset):
    listed = {row["name"]: row for row in rows(dataset)}
    pairs = real_pairs[dataset]
    assert len(pairs) >= 5
    for pair in pairs[:: len(pairs) // 3]:
        assert check_pair(pair) == ""
        ir, vi = load_pair(pair)
        assert vi.shape == (*ir.shape, 3)
        for side in ("ir", "vi"):
            stored = np.asarray(Image.open(getattr(pair, side)))
            if stored.ndim == 3 and (stored.max(2) == stored.min(2)).all():
                stored = stored[:, :, 0]
            assert listed[pair.name][f"sha256_{side}"] == sha256(stored)


def test_r23_llvip_shows_no_place_of_a_test_pair_in_training(real_pairs):
    """Thumbnails of one place correlate by more than 0.5, by day and night still by 0.2."""
    parts, similar = split_pairs(real_pairs["LLVIP"], "LLVIP"), 0
    for side in ("ir", "vi"):
        looks = {}
        for part in (("test",), ("train", "val")):
            images = []
            for pair in (pair for name in part for pair in parts[name]):
                image = Image.open(getattr(pair, side)).convert("L")
                small = np.asarray(image.resize((160, 128), Image.Resampling.BOX), float)
                detail = gaussian_filter(small, 1) - gaussian_filter(small, 8)
                images.append((detail - detail.mean()).ravel() / detail.std())
            looks[part] = np.array(images)
        first, second = looks.values()
        similar = similar + first @ second.T / first.shape[1] / 2
    assert similar.shape == (20, 14)
    assert similar.max() < 0.1
