"""Bringing official archives and folders into one layout; rows 26, 28 and 29 of the faults."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fusionlib.datasets import DATASETS, REAL, find_pairs
from fusionlib.download import prepare, terms
from fusionlib.errors import DatasetError
from fusionlib.files import lock

README = (Path(__file__).parent.parent / "data" / "README.md").read_text(encoding="utf-8")
OFFICIAL = {  # as its owner packs it: infrared files, visible ones, and what is neither
    "RoadScene": (
        "RoadScene-ab71420/cropinfrared/FLIR_{}.jpg",
        "RoadScene-ab71420/crop_LR_visible/FLIR_{}.jpg",
        "RoadScene-ab71420/crop_HR_visible/FLIR_{}.jpg",
    ),
    "MSRS": (
        "MSRS-main/{part}/ir/{}D.png",
        "MSRS-main/{part}/vi/{}D.png",
        "MSRS-main/{part}/Segmentation_labels/{}D.png",
        "MSRS-main/detection/ir/{}.png",
        "MSRS-main/detection/vi/{}.png",
    ),
    "LLVIP": ("LLVIP/infrared/{part}/01000{}.jpg", "LLVIP/visible/{part}/01000{}.jpg"),
    "M3FD": (
        "M3FD_Fusion/Ir/0000{}.png",
        "M3FD_Fusion/Vis/0000{}.png",
        "M3FD_Fusion/.thumbs/Ir/{}.png",
        "__MACOSX/Ir/{}3.png",
        "__MACOSX/Vis/{}3.png",
    ),
    "TNO": ("TNO-main/ir/0{}.bmp", "TNO-main/vi/0{}.bmp"),
}


def png(path, size=(6, 4), colour=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".bmp": "BMP"}.get(path.suffix, "PNG")
    Image.new("L", size, colour).save(path, kind)
    return path


def tree(root, *names):
    """Write an image per name, each of its own grey level."""
    for number, name in enumerate(names):
        png(root / name, colour=number)
    return root


def placed(root, dataset):
    sides = {side: {f.name for f in (root / dataset / side).iterdir()} for side in ("ir", "vi")}
    assert {f.name for f in (root / dataset).iterdir()} == {"ir", "vi", "TERMS.txt"}
    return sides["ir"], sides["vi"]


def official(folder, dataset="MSRS", files=None):
    """The files of two pairs, each of its own grey level, and those of each side."""
    parts = ((1, "train"), (2, "test"))
    files = [[f.format(n, part=part) for n, part in parts] for f in files or OFFICIAL[dataset]]
    return tree(folder, *(name for names in files for name in names)), files[:2]


DEEP = ("deep/er/IR/{}.png", "deep/er/vis/{}.jpg")  # in any case of letters


@pytest.mark.parametrize(
    ("dataset", "files", "form"),
    [*((name, files, "zip") for name, files in OFFICIAL.items()), ("M3FD", DEEP, "folder")],
)
def test_prepare_official_layout_at_any_depth(tmp_path, dataset, files, form):
    (source, sides), root = official(tmp_path / "source", dataset, files), tmp_path / "root"
    before = {f: f.read_bytes() for f in source.rglob("*") if f.is_file()}
    given = source if form == "folder" else shutil.make_archive(tmp_path / "a", "zip", source)
    assert prepare(dataset, given, root) == len(find_pairs(root, dataset)) == 2
    assert (root / dataset / "TERMS.txt").read_text() == terms(dataset)
    for names, side, found in zip(sides, ("ir", "vi"), placed(root, dataset), strict=True):
        assert found == {Path(name).name for name in names}
        for name in names:
            copy = root / dataset / side / Path(name).name
            assert copy.read_bytes() == before[source / name] and not copy.is_symlink()
    assert {f: f.read_bytes() for f in source.rglob("*") if f.is_file()} == before
    assert {f.name for f in root.iterdir()} == {dataset, f".{dataset}.lock"}


def test_prepare_takes_its_own_dataset_and_never_another(tmp_path):
    source, root = tmp_path / "source", tmp_path / "root"
    tree(source, *(f"{name}/{side}/{name}.png" for name in DATASETS for side in ("ir", "vi")))
    assert prepare("TNO", source, root) == 1
    assert placed(root, "TNO") == ({"TNO.png"}, {"TNO.png"})
    shutil.rmtree(source / "TNO")
    with pytest.raises(DatasetError, match=r"no pairs of TNO found.*ir/ and vi/"):
        prepare("TNO", source, root)


def test_prepare_in_place_changes_nothing_and_completes_what_is_there(tmp_path):
    root = tree(tmp_path / "root", "MSRS/ir/mine.png", "MSRS/vi/mine.png")
    before = (root / "MSRS/ir/mine.png").stat().st_mtime_ns
    assert prepare("MSRS", root, root) == prepare("MSRS", root / "MSRS", root) == 1
    assert (root / "MSRS/ir/mine.png").stat().st_mtime_ns == before
    source, _ = official(tmp_path / "source")
    assert prepare("MSRS", source, root) == prepare("MSRS", source, root) == 2
    assert placed(root, "MSRS")[0] == {"mine.png", "1D.png", "2D.png"}


@pytest.mark.parametrize("there", ["ir/b.png", "vi/B.jpg"])
def test_prepare_never_overwrites_another_file(tmp_path, there):
    source = tree(tmp_path / "source", "ir/a.png", "ir/b.png", "vi/a.png", "vi/b.png")
    old = png(tmp_path / "root" / "MSRS" / there, colour=200)
    content = old.read_bytes()
    with pytest.raises(DatasetError, match=r"differs from.*nothing was changed"):
        prepare("MSRS", source, tmp_path / "root")
    assert old.read_bytes() == content
    assert [f for f in (tmp_path / "root").rglob("*.png") if f != old] == []


def test_prepare_pairs_by_stem_never_by_order(tmp_path, capsys):
    names = ("ir/a", "ir/c", "ir/d", "vi/b", "vi/c", "vi/d")
    source = tree(tmp_path / "source", *(f"{name}.png" for name in names))
    with pytest.raises(DatasetError, match=r"2 files without .*ir/a\.png, vi/b\.png\. .*skip"):
        prepare("MSRS", source, tmp_path / "root")
    assert not (tmp_path / "root" / "MSRS").exists()
    assert prepare("MSRS", source, tmp_path / "root", skip_orphans=True) == 2
    assert "ir/a.png, vi/b.png. They are left out" in capsys.readouterr().out
    for side in ("ir", "vi"):
        copy = tmp_path / "root" / "MSRS" / side / "c.png"
        assert copy.read_bytes() == (source / side / "c.png").read_bytes()


def test_prepare_refuses_one_name_twice_and_pairs_that_do_not_fit(tmp_path):
    parts = [f"M3FD_{part}/{side}/1.png" for part in ("A", "B") for side in ("Ir", "Vis")]
    with pytest.raises(DatasetError, match=r"'1' is both .*give one"):
        prepare("M3FD", tree(tmp_path / "two", *parts), tmp_path / "root")
    source = tree(tmp_path / "source", "ir/b.png")
    png(source / "vi" / "b.png", size=(12, 8))
    with pytest.raises(DatasetError, match=r"ir.b\.png is 6×4 but .*vi.b\.png is 12×8"):
        prepare("M3FD", source, tmp_path / "root")
    assert not (tmp_path / "root" / "M3FD").exists()


def test_prepare_names_wrong_arguments(tmp_path):
    half = ("cropinfrared/a.png", "crop_HR_visible/a.png")
    scenes = [f"TNO/Athena/{scene}/{name}.bmp" for scene in "ab" for name in ("IR_1", "VIS_1")]
    for dataset, source, match in (
        ("KITTI", tmp_path, r"No dataset 'KITTI'.*RoadScene, .*TNO"),
        ("MSRS", tmp_path / "nowhere", "nowhere does not exist"),
        ("TNO", tree(tmp_path / "own", *scenes), r"no pairs of TNO.* two folders, ir/ and vi/"),
        # crop_HR_visible is larger and not aligned
        ("RoadScene", tree(tmp_path / "hr", *half), r"no pairs of RoadScene.*crop_LR_visible/"),
    ):
        with pytest.raises(DatasetError, match=match):
            prepare(dataset, source, tmp_path / "root")


def test_r28_second_prepare_waits_and_takes_the_result(tmp_path):
    (source, _), root = official(tmp_path / "source"), tmp_path / "root"
    root.mkdir()
    call = f"print(prepare('MSRS', {str(source)!r}, {str(root)!r}))"
    code = f"from fusionlib.download import prepare; {call}"
    with lock(root / ".MSRS.lock"):
        second = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert "waiting for process" in second.stderr.readline()
        assert not (root / "MSRS").exists()
    assert second.communicate(timeout=60)[0] == "2\n"


def test_r29_every_dataset_has_terms_and_a_way_and_the_readme_agrees():
    for name in REAL:
        source = DATASETS[name]
        assert source.url or source.how
        assert source.terms in terms(name) and source.page in terms(name)
        (row,) = [line for line in README.splitlines() if line.startswith(f"| {name} |")]
        unstated = "no licence stated" in source.terms
        assert source.page in row and ("No licence stated" in row) == unstated
    assert "non-commercial" in terms("LLVIP") and "cite" in terms("LLVIP")
