"""``fusionlib data``"""

import numpy as np

from fusionlib.images import save_image


def test_status_names_every_dataset_and_where_the_missing_ones_are(tmp_path, run):
    status, said, _ = run("data", "status", "--root", tmp_path)
    assert status == 0
    for word in ("RoadScene", "LLVIP", "MSRS", "M3FD", "TNO", "figshare.com", "synthetic"):
        assert word in said


def test_r69_status_names_own_datasets(tmp_path, run):
    for side in ("ir", "vi"):
        (tmp_path / "MyCams" / side).mkdir(parents=True)
    assert "your own: MyCams; " in run("data", "status", "--root", tmp_path)[1]


def test_status_with_the_drawn_scenes_says_that_no_dataset_is_looked_at(tmp_path, run, monkeypatch):
    monkeypatch.setenv("FUSIONLIB_DATA", "synthetic")
    status, said, _ = run("data", "status")
    assert (
        status == 0 and "the notebooks use the drawn scenes" in said and "missing: TNO" not in said
    )
    assert "missing: TNO" in run("data", "status", "--root", tmp_path)[1]


def test_prepare_brings_an_official_folder_into_place(tmp_path, run):
    for name in ("FLIR_1", "FLIR_2"):
        save_image(tmp_path / "got" / "cropinfrared" / f"{name}.png", np.zeros((9, 9)))
        save_image(tmp_path / "got" / "crop_LR_visible" / f"{name}.png", np.zeros((9, 9, 3)))
    root = tmp_path / "root"
    status, said, _ = run("data", "prepare", "RoadScene", tmp_path / "got", "--root", root)
    assert status == 0 and "2 pairs" in said
    assert (root / "RoadScene" / "vi" / "FLIR_2.png").is_file()
    assert "  2 " in run("data", "status", "--root", root)[1]


def test_download_says_where_the_rest_is_to_be_had(tmp_path, run):
    status, _, said = run("data", "download", "LLVIP", "TNO", "--root", tmp_path, "--offline")
    assert status == 2
    assert "bupt-ai-cz.github.io/LLVIP" in said and "figshare.com" in said
    assert "python -m fusionlib data prepare LLVIP" in said
