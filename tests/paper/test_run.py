import numpy as np
import pytest

from fusionlib.datasets import REAL, SCENES
from fusionlib.encoder import EMBEDDED
from fusionlib.errors import DatasetError, FusionError
from fusionlib.images import save_image
from fusionlib.weights import SHIPPED
from paper.run import open_run


@pytest.fixture(autouse=True)
def no_data_from_outside(monkeypatch, tmp_path):
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    monkeypatch.setattr("fusionlib.datasets.USER_DATA", tmp_path / "data")


def write_pairs(root, dataset, count):
    for i in range(count):
        save_image(root / dataset / "ir" / f"{i:03d}.png", np.zeros((8, 8)))
        save_image(root / dataset / "vi" / f"{i:03d}.png", np.zeros((8, 8, 3)))


def test_without_data_the_drawn_scenes_are_read_and_said(tmp_path):
    run = open_run(out_dir=tmp_path / "out")
    assert run.is_synthetic and run.label == "synthetic" and run.root == SCENES
    assert run.data_title == "synthetic scenes"
    assert len(run.pairs("test")) == 8 and run.pairs("train") and run.pairs("val")
    assert not {p.name for p in run.pairs("test")} & {p.name for p in run.pairs("train")}
    assert run.image_figures() == tmp_path / "out" / "figures" / "synthetic"


def test_data_are_found_as_named_and_a_folder_without_any_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in REAL:
        write_pairs(tmp_path / "data" / "images", name, 4)
    write_pairs(tmp_path / "synthetic", "MSRS", 4)
    run = open_run("cpu", out_dir=tmp_path / "out")
    assert list(run.parts) == list(REAL) and run.data_title.startswith(f"{REAL[0]} ")
    assert {pair.dataset for pair in run.pairs("test")} == set(REAL)
    assert "TNO" not in {pair.dataset for pair in run.pairs("train")}
    for value, found in {"synthetic": ["Synthetic"], "./synthetic": ["MSRS"]}.items():
        monkeypatch.setenv("FUSIONLIB_DATA", "nowhere")
        assert list(open_run(data_root=value).parts) == found
        monkeypatch.setenv("FUSIONLIB_DATA", value)
        assert list(open_run().parts) == found
    with pytest.raises(DatasetError, match="data status"):
        open_run(data_root=str(tmp_path))


def test_quick_takes_few_real_pairs_and_cpu_takes_all(tmp_path):
    write_pairs(tmp_path, "RoadScene", 30)
    quick, cpu = (open_run(preset, str(tmp_path), out_dir=tmp_path) for preset in ("quick", "cpu"))
    assert [len(quick.pairs(part)) for part in ("train", "test")] == [4, 4]
    assert len(cpu.pairs("test")) == 15  # half of what is there, below the paper's 20
    assert len(cpu.pairs("train")) + len(cpu.pairs("val")) == 15
    assert not quick.is_synthetic and (quick.label, cpu.label) == ("quick", "reference")
    assert quick.pairs("test", ["TNO"]) == []
    assert quick.image_figures().name == "datasets"


def test_weights_given_then_trained_in_this_run_then_shipped(tmp_path):
    write_pairs(tmp_path, "TNO", 2)
    trained = tmp_path / "out" / "train" / "best.safetensors"

    def chosen(preset, weights=None):
        return open_run(preset, str(tmp_path), weights=weights, out_dir=tmp_path / "out").weights

    assert chosen("cpu") == SHIPPED
    trained.parent.mkdir(parents=True)
    trained.write_bytes(b"")
    assert chosen("cpu") == trained
    assert chosen("quick") == SHIPPED  # 16 steps are a demonstration, nothing to be judged
    assert chosen("cpu", str(trained)) == trained
    with pytest.raises(FusionError, match="no such file"):
        chosen("cpu", str(tmp_path / "gone.safetensors"))


def test_results_of_other_weights_or_encoders_have_a_folder_of_their_own(tmp_path):
    write_pairs(tmp_path, "TNO", 2)
    copy, other = tmp_path / "copy.safetensors", tmp_path / "other.safetensors"
    copy.write_bytes(SHIPPED.read_bytes())
    other.write_bytes(SHIPPED.read_bytes()[:-1])
    for preset, root, shipped, own in (
        ("quick", str(tmp_path), "quick", "quick"),
        ("cpu", str(tmp_path), "reference", "own"),
        ("quick", "synthetic", "synthetic", "own"),
    ):
        runs = [
            open_run(preset, root, encoder, weights, tmp_path / "out")
            for encoder, weights in (
                (EMBEDDED, None), (EMBEDDED, copy), (EMBEDDED, other), ("ViT-B-32/openai", None)
            )
        ]  # fmt: skip
        assert [run.label for run in runs] == [shipped, shipped, own, own]
        assert runs[2].tables() == tmp_path / "out" / "tables" / own
