"""Bringing official archives and folders into one layout; row 29 of the table of faults."""

import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image

from fusionlib import archives
from fusionlib.datasets import DATASETS, REAL, find_pairs
from fusionlib.errors import DatasetError
from fusionlib.prepare import prepare
from fusionlib.sources import SOURCES, terms


def png(path, size=(6, 4), colour=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".bmp": "BMP", ".tif": "TIFF"}.get(path.suffix.lower(), "PNG")
    Image.new("L", size, colour).save(path, kind)
    return path


def tree(root, *names, **how):
    """Write an image per name; each gets its own grey level unless told."""
    for number, name in enumerate(names):
        png(root / name.lstrip("/"), **({"colour": number % 250} | how))
    return root


def placed(root, dataset):
    sides = {side: {f.name for f in (root / dataset / side).iterdir()} for side in ("ir", "vi")}
    assert {f.name for f in (root / dataset).iterdir()} == {"ir", "vi", "TERMS.txt"}
    return sides["ir"], sides["vi"]


OFFICIAL = {
    "RoadScene": [
        "RoadScene-ab71420/cropinfrared/FLIR_1.jpg",
        "RoadScene-ab71420/crop_LR_visible/FLIR_1.jpg",
        "RoadScene-ab71420/crop_HR_visible/FLIR_1.jpg",
        "RoadScene-ab71420/cropinfrared/FLIR_2.jpg",
        "RoadScene-ab71420/crop_LR_visible/FLIR_2.jpg",
        "RoadScene-ab71420/crop_HR_visible/FLIR_2.jpg",
    ],
    "MSRS": [
        "MSRS-main/train/ir/1D.png",
        "MSRS-main/train/vi/1D.png",
        "MSRS-main/train/Segmentation_labels/1D.png",
        "MSRS-main/test/ir/2N.png",
        "MSRS-main/test/vi/2N.png",
        "MSRS-main/detection/ir/3.png",
        "MSRS-main/detection/vi/3.png",
    ],
    "LLVIP": [
        "LLVIP/infrared/train/010001.jpg",
        "LLVIP/visible/train/010001.jpg",
        "LLVIP/infrared/test/190001.jpg",
        "LLVIP/visible/test/190001.jpg",
    ],
    "M3FD": [
        "M3FD_Fusion/Ir/00000.png",
        "M3FD_Fusion/Vis/00000.png",
        "M3FD_Fusion/Ir/00001.png",
        "M3FD_Fusion/Vis/00001.png",
        "M3FD_Fusion/.thumbs/Ir/9.png",
        "__MACOSX/Ir/00002.png",
        "__MACOSX/Vis/00002.png",
    ],
    "TNO": [
        "tno/ir/01.bmp",
        "tno/vi/01.bmp",
        "tno/ir/02.bmp",
        "tno/vi/02.bmp",
    ],
}
NAMES = {
    "RoadScene": {"FLIR_1.jpg", "FLIR_2.jpg"},
    "MSRS": {"1D.png", "2N.png"},
    "LLVIP": {"010001.jpg", "190001.jpg"},
    "M3FD": {"00000.png", "00001.png"},
    "TNO": {"01.bmp", "02.bmp"},
}


@pytest.mark.parametrize("dataset", REAL)
def test_prepare_official_folder(tmp_path, dataset):
    source, root = tree(tmp_path / "source", *OFFICIAL[dataset]), tmp_path / "root"
    before = {f: f.read_bytes() for f in source.rglob("*") if f.is_file()}
    assert prepare(dataset, source, root) == 2
    assert placed(root, dataset) == (NAMES[dataset], NAMES[dataset])
    assert len(find_pairs(root, dataset)) == 2
    assert (root / dataset / "TERMS.txt").read_text() == terms(dataset)
    for copy in (root / dataset).rglob("*.*"):
        assert copy.name == "TERMS.txt" or copy.read_bytes() in before.values()
        assert not copy.is_symlink()
    assert {f: f.read_bytes() for f in source.rglob("*") if f.is_file()} == before
    assert {f.name for f in root.iterdir()} == {dataset, f".{dataset}.lock"}


@pytest.mark.parametrize("form", ["zip", "gztar"])
def test_prepare_official_archive(tmp_path, form):
    source, root = tree(tmp_path / "source", *OFFICIAL["MSRS"]), tmp_path / "root"
    assert prepare("MSRS", Path(shutil.make_archive(tmp_path / "a", form, source)), root) == 2
    assert placed(root, "MSRS") == (NAMES["MSRS"], NAMES["MSRS"])
    assert {f.name for f in root.iterdir()} == {"MSRS", ".MSRS.lock"}


def test_prepare_takes_the_right_half_of_roadscene(tmp_path):
    source = tree(tmp_path / "source", "cropinfrared/a.png", "crop_LR_visible/a.png")
    png(source / "crop_HR_visible" / "a.png", size=(12, 8))
    prepare("RoadScene", source, tmp_path / "root")
    visible = (source / "crop_LR_visible" / "a.png").read_bytes()
    assert (tmp_path / "root/RoadScene/vi/a.png").read_bytes() == visible


def test_prepare_roadscene_with_only_the_large_colour_folder(tmp_path):
    source = tree(tmp_path / "source", "cropinfrared/a.png", "crop_HR_visible/a.png")
    with pytest.raises(DatasetError, match="crop_HR_visible/ is not pixel-aligned"):
        prepare("RoadScene", source, tmp_path / "root")
    assert not (tmp_path / "root" / "RoadScene").exists()


@pytest.mark.parametrize("names", [("Ir", "Vis"), ("IR", "vis"), ("Ir", "Vi")])
def test_prepare_m3fd_names(tmp_path, names):
    source = tree(tmp_path / "source", *(f"deep/er/{name}/1.png" for name in names))
    assert prepare("M3FD", source, tmp_path / "root") == 1


@pytest.mark.parametrize("above", ["", "RoadScene", "other/roadscene"])
def test_prepare_own_layout(tmp_path, above):
    source = tree(tmp_path / "source", f"{above}/ir/a.png", f"{above}/vi/a.jpg")
    assert prepare("RoadScene", source, tmp_path / "root") == 1
    assert placed(tmp_path / "root", "RoadScene") == ({"a.png"}, {"a.jpg"})


@pytest.mark.parametrize("dataset", REAL)
def test_prepare_takes_its_own_dataset_and_never_another(tmp_path, dataset):
    source, root = tmp_path / "source", tmp_path / "root"
    tree(source, *(f"{name}/{side}/{name}.png" for name in DATASETS for side in ("ir", "vi")))
    assert prepare(dataset, source, root) == 1
    assert placed(root, dataset) == ({f"{dataset}.png"}, {f"{dataset}.png"})
    shutil.rmtree(source / dataset)
    with pytest.raises(DatasetError, match=f"no pairs of {dataset} found"):
        prepare(dataset, source, root)


def test_prepare_in_place_changes_nothing(tmp_path):
    root = tree(tmp_path / "root", "MSRS/ir/a.png", "MSRS/vi/a.png")
    before = (root / "MSRS/ir/a.png").stat().st_mtime_ns
    assert prepare("MSRS", root, root) == prepare("MSRS", root / "MSRS", root) == 1
    assert (root / "MSRS/ir/a.png").stat().st_mtime_ns == before


def test_prepare_pairs_by_stem_never_by_order(tmp_path):
    source = tmp_path / "source"
    names = ["ir/a.png", "ir/c.png", "ir/d.png", "vi/b.png", "vi/c.png", "vi/d.png"]
    tree(source, *names)
    with pytest.raises(DatasetError, match=r"2 files without .*ir/a\.png, vi/b\.png\. .*skip"):
        prepare("MSRS", source, tmp_path / "root")
    assert not (tmp_path / "root" / "MSRS").exists()
    notes = []
    count = prepare("MSRS", source, tmp_path / "root", on_orphan="skip", say=notes.append)
    assert count == 2 and "ir/a.png, vi/b.png" in notes[0]
    for side in ("ir", "vi"):
        copy = tmp_path / "root" / "MSRS" / side / "c.png"
        assert copy.read_bytes() == (source / side / "c.png").read_bytes()


def test_prepare_counts_orphans_beyond_ten(tmp_path):
    source = tree(tmp_path / "source", *(f"ir/{n:02}.png" for n in range(13)), "vi/00.png")
    with pytest.raises(DatasetError, match=r"12 files.*ir/10\.png and 2 more"):
        prepare("MSRS", source, tmp_path / "root")


@pytest.mark.parametrize("names", [("a.png", "a.jpg"), ("a.png", "A.png")])
def test_prepare_ambiguous_stem(tmp_path, names):
    source = tree(tmp_path / "source", *(f"ir/{name}" for name in names), "vi/a.png")
    with pytest.raises(DatasetError, match="ambiguous"):
        prepare("MSRS", source, tmp_path / "root")


def test_prepare_names_both_sizes(tmp_path):
    source = tree(tmp_path / "source", "ir/a.png", "ir/b.png", "vi/a.png")
    png(source / "vi" / "b.png", size=(12, 8))
    with pytest.raises(
        DatasetError, match=r"ir.b\.png and .*vi.b\.png: sizes differ: 6×4 and 12×8"
    ):
        prepare("M3FD", source, tmp_path / "root")
    assert not (tmp_path / "root" / "M3FD").exists()


@pytest.mark.parametrize("data", [b"text", b"\x89PNG\r\n\x1a\n"])
def test_prepare_file_that_is_no_image(tmp_path, data):
    source = tree(tmp_path / "source", "ir/a.png", "vi/a.png")
    (source / "vi" / "a.png").write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.png: cannot be read as an image"):
        prepare("MSRS", source, tmp_path / "root")


def test_prepare_same_name_with_other_pixels(tmp_path):
    names = [
        f"M3FD_{part}/{side}/1.png" for part in ("Fusion", "Detection") for side in ("Ir", "Vis")
    ]
    source = tree(tmp_path / "source", *names)
    with pytest.raises(DatasetError, match="Two different pairs '1'"):
        prepare("M3FD", source, tmp_path / "root")
    same = tree(tmp_path / "same", *names, colour=1)
    assert prepare("M3FD", same, tmp_path / "root") == 1


@pytest.mark.parametrize("there", ["ir/b.png", "ir/b.jpg", "vi/B.png"])
def test_prepare_never_overwrites_another_file(tmp_path, there):
    source = tree(tmp_path / "source", "ir/a.png", "ir/b.png", "vi/a.png", "vi/b.png")
    old = png(tmp_path / "root" / "MSRS" / there, colour=200)
    content = old.read_bytes()
    with pytest.raises(DatasetError, match=r"differs from.*nothing was changed"):
        prepare("MSRS", source, tmp_path / "root")
    assert old.read_bytes() == content
    assert [f for f in (tmp_path / "root").rglob("*.png") if f != old] == []


def test_prepare_completes_what_is_there(tmp_path):
    root = tree(tmp_path / "root", "MSRS/ir/mine.png", "MSRS/vi/mine.png")
    source = tree(tmp_path / "source", *OFFICIAL["MSRS"])
    assert prepare("MSRS", source, root) == prepare("MSRS", source, root) == 2
    assert placed(root, "MSRS")[0] == {"mine.png", "1D.png", "2N.png"}


def test_prepare_crash_leaves_no_half_dataset(tmp_path, monkeypatch):
    source, copied = tree(tmp_path / "source", *OFFICIAL["MSRS"]), []

    def full(one, two):
        copied.append(Path(two).write_bytes(b"half"))
        if len(copied) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DatasetError, match="No space left"):
        prepare("MSRS", source, tmp_path / "root")
    assert [f.name for f in (tmp_path / "root").iterdir()] == [".MSRS.lock"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("KITTI", "source"), "No dataset 'KITTI'.*RoadScene, .*TNO"),
        (("MSRS", "nowhere"), "nowhere does not exist"),
        (("MSRS", "source"), "no pairs of MSRS.*ir/ and vi/"),
    ],
)
def test_prepare_wrong_arguments(tmp_path, arguments, match):
    (tmp_path / "source").mkdir()
    dataset, source = arguments
    with pytest.raises(DatasetError, match=match):
        prepare(dataset, tmp_path / source, tmp_path / "root")


def test_prepare_wrong_choice_for_orphans(tmp_path):
    with pytest.raises(DatasetError, match="on_orphan='ignore'"):
        prepare("MSRS", tmp_path, tmp_path / "root", on_orphan="ignore")


def test_r26_prepare_writes_nothing_outside_for_a_hostile_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as box:
        for name in ("MSRS/train/ir/a.png", "../../../evil.png"):
            box.writestr(name, b"")
    with pytest.raises(DatasetError, match="evil"):
        prepare("MSRS", tmp_path / "a.zip", tmp_path / "root")
    assert list(tmp_path.rglob("*.png")) == []


def test_r28_prepare_waits_for_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LOCK_POLL", 0.05)
    owner = tmp_path / ".MSRS.lock.owner"
    with FileLock(tmp_path / ".MSRS.lock"):
        owner.write_text("process 1234 on elsewhere")
        os.utime(owner, (time.time() - 3700,) * 2)
        with pytest.raises(DatasetError, match="process 1234 on elsewhere"):
            prepare("MSRS", tmp_path, tmp_path)


def test_r29_every_dataset_has_terms_and_a_way():
    assert sorted(SOURCES) == sorted(REAL)
    for name, source in SOURCES.items():
        assert source.dataset == name and source.page.startswith("https://") and source.how
        assert source.terms in terms(name) and source.page in terms(name)
    assert "Non-commercial" in terms("LLVIP") and "cite" in terms("LLVIP")
    with pytest.raises(DatasetError, match="No dataset"):
        terms("KITTI")


# ---- TNO as on figshare

TNO_TREE = {
    "Athena_images/2_men_in_front_of_house": ["IR_meting003_g.bmp", "VIS_meting003_r.bmp"],
    "Athena_images/airplane_in_trees": ["ir.bmp", "vis.bmp", "fused.bmp"],
    "Athena_images/APC_1/view_1": ["IR_fk_06_005.bmp", "VIS_fk_06_005.bmp"],
    "Athena_images/APC_2/view_1": ["1_fk_ge_03_005.bmp", "2_fk_ge_03_005.bmp"],
    "Athena_images/bunker": ["IR_bunker_g.bmp", "bunker_r.bmp"],
    "Athena_images/heather": ["IR_hei_vis_g.bmp", "VIS_hei_vis_r.bmp"],
    "DHV_images/wall": ["NIR_163dhvG.BMP", "IR_163rad.bmp", "VIS_163dhvR.BMP"],
    "DHV_images/Fire_sequence/part_1/thermal": ["RAD2.bmp", "RAD3.bmp"],
    "DHV_images/Fire_sequence/part_1/dhv": ["DHV2.bmp", "DHV3.bmp", "DHV4.bmp"],
    "DHV_images/Fire_sequence/part_2/rad": ["RADheli0.bmp"],
    "DHV_images/Fire_sequence/part_2/dhv": ["DHVheli0.bmp"],
    "FEL_images/Duine_sequence/thermal": ["7400i.bmp", "7401i.bmp"],
    "FEL_images/Duine_sequence/visual": ["7400v.bmp", "7401v.bmp"],
    "Triclobs_images/Balls": ["NIR.bmp", "VIS.bmp"],
    "Triclobs_images/barbed_wire_1": ["G_NIR.tif", "B_LWIR.tif", "R_Vis.tif"],
    "Triclobs_images/barbed_wire_2": ["a_VIS-Mar_24RGB_1.tif", "c_LWIR-Mar_24RGB_1.tif"],
    "Triclobs_images/Farm": ["Farm_II.bmp", "Farm_IR.bmp", "Farm_Vis.bmp"],
    "Triclobs_images/Kaptein_01": ["NIR01.bmp", "IR01.bmp", "Vis01.bmp"],
    "Triclobs_images/dim": ["dim_II.bmp", "dim_IR.bmp"],
    "Triclobs_images/flat": ["1_IR.png", "1_Vis.png", "2_IR.png", "2_Vis.png", "3_IR.png"],
    "tank": ["LWIR.tif", "Vis.tif"],
}
TNO_PAIRS = {
    "2_men_in_front_of_house": ("IR_meting003_g.bmp", "VIS_meting003_r.bmp"),
    "airplane_in_trees": ("ir.bmp", "vis.bmp"),
    "APC_1_view_1": ("IR_fk_06_005.bmp", "VIS_fk_06_005.bmp"),
    "bunker": ("IR_bunker_g.bmp", "bunker_r.bmp"),
    "heather": ("IR_hei_vis_g.bmp", "VIS_hei_vis_r.bmp"),
    "wall": ("IR_163rad.bmp", "VIS_163dhvR.BMP"),
    "Fire_sequence_part_1_2": ("RAD2.bmp", "DHV2.bmp"),
    "Fire_sequence_part_1_3": ("RAD3.bmp", "DHV3.bmp"),
    "Fire_sequence_part_2": ("RADheli0.bmp", "DHVheli0.bmp"),
    "Duine_sequence_7400": ("7400i.bmp", "7400v.bmp"),
    "Duine_sequence_7401": ("7401i.bmp", "7401v.bmp"),
    "barbed_wire_1": ("B_LWIR.tif", "R_Vis.tif"),
    "barbed_wire_2": ("c_LWIR-Mar_24RGB_1.tif", "a_VIS-Mar_24RGB_1.tif"),
    "Farm": ("Farm_IR.bmp", "Farm_Vis.bmp"),
    "Kaptein_01": ("IR01.bmp", "Vis01.bmp"),
    "dim": ("dim_IR.bmp", "dim_II.bmp"),
    "flat_1": ("1_IR.png", "1_Vis.png"),
    "flat_2": ("2_IR.png", "2_Vis.png"),
    "tank": ("LWIR.tif", "Vis.tif"),
}


@pytest.mark.parametrize("above", ["TNO_Image_Fusion_Dataset/TNO_Image_Fusion_Dataset", ""])
def test_prepare_tno_figshare_tree(tmp_path, above):
    files = [f"{above}/{scene}/{name}" for scene, names in TNO_TREE.items() for name in names]
    source = tree(tmp_path / "source", *files)
    (source / above / "README.txt").write_text("text")
    png(source / above / "Triclobs_images" / "shifted" / "IR.bmp")
    png(source / above / "Triclobs_images" / "shifted" / "VIS.bmp", size=(7, 4))
    notes = []
    root = tmp_path / "root"
    assert prepare("TNO", source, root, say=notes.append) == len(TNO_PAIRS)
    suffix = {name: Path(name).suffix for pair in TNO_PAIRS.values() for name in pair}
    by_name = {name: scene for scene, names in TNO_TREE.items() for name in names}
    for pair_name, pair in TNO_PAIRS.items():
        for side, name in zip(("ir", "vi"), pair, strict=True):
            copy = root / "TNO" / side / (pair_name + suffix[name])
            original = source / above / by_name[name] / name
            assert copy.read_bytes() == original.read_bytes(), pair_name
    assert len(notes) == 1 and notes[0].startswith("TNO: 5 skipped")
    for scene in ("APC_2_view_1 (0", "Balls (0", "shifted (0", "part_1 (2 pairs of 5", "flat (2"):
        assert scene in notes[0]


def test_prepare_tno_single_scene_and_nothing(tmp_path):
    source = tree(tmp_path / "Reek", "Reek_IR.bmp", "Reek_Vis.bmp", "Reek_II.bmp")
    assert prepare("TNO", source, tmp_path / "root") == 1
    assert placed(tmp_path / "root", "TNO") == ({"Reek.bmp"}, {"Reek.bmp"})
    with pytest.raises(DatasetError, match="no pairs of TNO"):
        prepare("TNO", tree(tmp_path / "x", "VIS.bmp", "NIR.bmp"), tmp_path / "y")
