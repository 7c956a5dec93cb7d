"""``fusionlib data``"""

import re

import numpy as np
from textures import touch

from fusionlib.images import save_image
from fusionlib.splits import read_split


def test_status_counts_what_is_there_and_says_where_the_rest_is(tmp_path, run):
    for side in ("ir", "vi"):
        for name, names in (("MSRS", read_split("MSRS")), ("M3FD", range(10)), ("MyCams", "a")):
            touch(tmp_path / name / side, *(f"{stem}.png" for stem in names))
    status, said, _ = run("data", "status", "--root", tmp_path)
    assert status == 0 and [line.split() for line in said.splitlines()[2:7]] == [
        ["RoadScene", "0", "0", "0", "0", "220", "none", "200", "20"],
        ["LLVIP", "0", "0", "0", "0", "34", "none", "201", "20"],  # 66 of the 100 are not used
        ["MSRS", "237", "217", "11", "20", "0", "committed", "217", "20"],
        ["M3FD", "10", "5", "1", "5", "76", "drawn", "230", "20"],
        ["TNO", "0", "0", "0", "0", "55", "none", "0", "55"],
    ]
    assert "drawn: not the pairs of data/splits/" in said and "your own: MyCams; " in said  # row 69
    missing = re.findall(r"^missing: (\w+), from https://", said, re.M)
    assert missing == ["RoadScene", "LLVIP", "TNO"]
    assert "synthetic" not in said


def test_status_without_datasets_says_what_the_notebooks_use(tmp_path, run, monkeypatch):
    assert "notebooks use synthetic scenes" in run("data", "status", "--root", tmp_path)[1]
    monkeypatch.setenv("FUSIONLIB_DATA", "synthetic")
    status, said, _ = run("data", "status")
    assert status == 0 and "use the drawn scenes" in said and "missing: TNO" not in said
    assert "missing: TNO" in run("data", "status", "--root", tmp_path)[1]


def test_prepare_brings_an_official_folder_into_place(tmp_path, run):
    root, official = tmp_path / "root", tmp_path / "got"
    save_image(official / "cropinfrared" / "FLIR_1.png", np.zeros((9, 9)))
    save_image(official / "crop_LR_visible" / "FLIR_1.png", np.zeros((9, 9, 3)))
    status, said, _ = run("data", "prepare", "RoadScene", official, "--root", root)
    assert status == 0 and said.endswith("RoadScene: 1 pair\n")
    assert (root / "RoadScene" / "vi" / "FLIR_1.png").is_file()
