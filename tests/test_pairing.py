"""Which images belong together: by equal names, by what is left of them, by a list."""

import unicodedata

import pytest
from textures import touch

from fusionlib.errors import DatasetError, PairError
from fusionlib.pairing import Pair, PairingWarning, pair_folders, read_pairs


def test_pairs_are_sorted_and_carry_name_and_dataset(folders):
    ir, vi = folders
    assert pair_folders(*folders) == []
    touch(ir, "b.JPG", "a.png", "c.tif", "TERMS.txt", ".DS_Store", "._a.png", "b.xml")
    touch(vi, "c.webp", "b.png", "a.jpg", "labels.json")  # other and hidden files are no images
    files = (("a", "a.png", "a.jpg"), ("b", "b.JPG", "b.png"), ("c", "c.tif", "c.webp"))
    pairs = [Pair("TNO", name, ir / one, vi / two) for name, one, two in files]
    assert pair_folders(str(ir), str(vi), "TNO") == pairs


def test_missing_folder_and_one_folder_for_both_sides_are_errors(folders, tmp_path):
    for arguments in ((tmp_path / "gone", folders[1]), (folders[0], tmp_path / "gone")):
        with pytest.raises(DatasetError, match="gone: no such folder"):
            pair_folders(*arguments)
    touch(folders[0], "DJI_1_T.jpg", "DJI_1_W.jpg")
    with pytest.raises(PairError, match=r"are one folder.*--pairs"):
        pair_folders(folders[0], folders[0].parent / "vi" / ".." / "ir")


def test_r01_orphans_of_both_sides_are_listed_ten_then_counted(folders):
    ir, vi = folders
    touch(ir, "both.png", *(f"i{n:02d}.png" for n in range(12)))
    touch(vi, "both.png", *(f"v{n:02d}.jpg" for n in range(10)))
    with pytest.raises(PairError) as caught:
        pair_folders(ir, vi)
    first, second = str(caught.value).split("; ")
    names = ", ".join(f"i{n:02d}.png" for n in range(10))
    assert first == f"only in {ir}: {names} and 2 more"
    names = ", ".join(f"v{n:02d}.jpg" for n in range(10))
    assert second.startswith(f"only in {vi}: {names}. ")


@pytest.mark.parametrize(
    "names", [("a.png", "a.jpg"), ("ß.png", "SS.png"), ("\u00e9.png", "e\u0301.png")]
)
def test_r02_same_stem_twice_is_ambiguous(folders, names):
    touch(folders[1], *names)
    if len(list(folders[1].iterdir())) == 1:
        pytest.skip("this file system does not tell the two apart")
    touch(folders[0], names[0])
    with pytest.raises(PairError, match="one stem") as caught:
        pair_folders(*folders)
    assert all(name in str(caught.value) for name in names)


def test_r19_unusual_names_pair_up(folders):
    names = ["two words", "-x", "--help", "Straße", "夜", "a.b", "n" * 251, "100%", "{x}", "a'b"]
    names += ["\u00e91", "f1", "z1"]  # é sorts after z, and e + accent before f
    touch(folders[0], *(f"{name}.png" for name in names))
    touch(folders[1], *(f"{unicodedata.normalize('NFD', name)}.png" for name in names))
    for one, two in (folders, folders[::-1]):
        pairs = pair_folders(one, two)
        assert [pair.name for pair in pairs] == sorted(names)  # never decomposed
        for path in (path for pair in pairs for path in (pair.ir, pair.vi)):
            assert path.is_file()


@pytest.mark.parametrize("name", ["two\nlines", "tab\tbed", "line\u2028break", "back\\slash"])
def test_r19_line_breaks_and_separators_are_refused(folders, name):
    for folder in folders:
        touch(folder, f"{name}.png")
    with pytest.raises(PairError, match="rename"):
        pair_folders(*folders)


CAMERAS = {
    "beginning": (["IR_0001", "IR_0002"], ["VIS_0001", "VIS_0002"], ["0001", "0002"]),
    "end": (["DJI_0001_T", "DJI_0002_T"], ["DJI_0001_W", "DJI_0002_W"], ["DJI_0001", "DJI_0002"]),
    "one end only": (["a", "b"], ["a_rgb", "b_rgb"], ["a", "b"]),
    "both": (
        ["video-A-frame-000745-X", "video-A-frame-000750-X"],
        ["video-B-frame-000745-Y", "video-B-frame-000750-Y"],
        ["video-frame-000745", "video-frame-000750"],
    ),
    "hashes": (["k7Qz_5_x9", "k7Qz_6_x9"], ["p2_5", "p2_6"], ["5", "6"]),
    "no separator": (["IR1", "IR12"], ["V1", "V12"], ["1", "12"]),
    "words": (["ir-mug", "ir-road side"], ["vi-mug", "vi-road side"], ["mug", "road side"]),
    "one image": (["DJI_0001_T"], ["DJI_0001_W"], ["DJI_0001"]),
    "one image, both": (["video-A-frame-7-X"], ["video-B-frame-7-Y"], ["video-frame-7"]),
}


@pytest.mark.parametrize("case", CAMERAS)
@pytest.mark.parametrize("swap", [False, True])
def test_r68_names_of_cameras_are_paired_by_what_is_left_and_that_is_said(folders, case, swap):
    *sides, names = CAMERAS[case]
    one, two = sides[::-1] if swap else sides
    touch(folders[0], *(f"{stem}.png" for stem in one))
    touch(folders[1], *(f"{stem}.jpg" for stem in two))
    with pytest.warns(PairingWarning, match=f"{one[0]}.png is paired with {two[0]}.jpg.*--pairs"):
        pairs = pair_folders(*folders)
    assert [(pair.name, pair.ir.stem, pair.vi.stem) for pair in pairs] == sorted(
        zip(names, one, two, strict=True)
    )


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (["IR_0001", "IR_0002"], ["VIS_0001", "VIS_0003"]),  # not all
        (["IR_0001", "IR_0002"], ["VIS_0001"]),
        (["2024_01", "2024_02"], ["2023_01", "2023_02"]),  # other years, not other cameras
        (["cam1_01", "cam1_02"], ["cam2_01", "cam2_02"]),
        (["FLIR1234", "FLIR1236"], ["FLIR1235", "FLIR1237"]),
        (["IMG_0001_A"], ["IMG_0002_A"]),
        (["thermal"], ["visible"]),
        (["same", "day_1"], ["same", "night_1"]),  # one name is equal: then all have to be
        (["a_1_b", "c_2_d"], ["x_1_b", "y_2_d"]),  # no beginning that all share
    ],
)
def test_r68_nothing_is_guessed(folders, one, two, recwarn):
    for folder, stems in zip(folders, (one, two), strict=True):
        touch(folder, *(f"{stem}.png" for stem in stems))
    with pytest.raises(PairError, match=r"only in .*--pairs list\.csv"):
        pair_folders(*folders)
    assert not recwarn.list


def test_r68_a_list_pairs_any_names_beside_it(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("ir,vi,name\na/x.png,b/y 1.jpg,\n/c/z.png,ü.png,first\n", encoding="utf-8")
    assert read_pairs(path) == [
        Pair("", "y 1", tmp_path / "a/x.png", tmp_path / "b/y 1.jpg"),
        Pair("", "first", tmp_path / "/c/z.png", tmp_path / "ü.png"),
    ]
    path.write_bytes("vi;ir\r\ny.png;x.png\r\n".encode("utf-8-sig"))  # as Excel may write it
    assert read_pairs(path) == [Pair("", "y", tmp_path / "x.png", tmp_path / "y.png")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "expected the columns ir, vi"),
        ("", "expected the columns ir, vi"),
        ("ir,vi\nx.png,\n", "line 2"),
        ("ir,vi\nx.png,y.png\nx.png,z.png,1,2\n", "line 3"),
        ("ir,vi\na/1.png,y.png\nb/1.png,Y.png\n", "line 3: a second pair called 'Y'"),
        ("ir,vi,name\nx.png,y.png,../z\n", "in a name"),
    ],
)
def test_r68_a_list_that_cannot_be_meant_is_refused(tmp_path, text, said):
    with pytest.raises(PairError, match=r"list\.csv: cannot be read"):
        read_pairs(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(PairError, match=said):
        read_pairs(tmp_path / "list.csv")
