"""``fusionlib train``"""

import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fusionlib.commands.options import check_device
from fusionlib.weights import load_weights

QUICK = ("train", "--preset", "quick", "--steps", 2)


def local_clip(folder, seed):
    """A small CLIP with random weights, as a folder that open_clip understands."""
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
    }
    torch.manual_seed(seed)
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    )
    weights = open_clip.CLIP(**config).state_dict()
    save_file(weights, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def test_r35_train_with_a_local_clip_then_fuse_with_it_and_with_no_other(
    pair, tmp_path, run, monkeypatch
):
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    monkeypatch.setattr("fusionlib.datasets.USER_DATA", tmp_path)
    clip, other = local_clip(tmp_path / "one", 1), local_clip(tmp_path / "two", 2)
    train = (*QUICK, "--out", tmp_path / "trained")
    status, said, _ = run(*train, "--encoder", clip)
    assert status == 0 and said.startswith("no dataset found: training on the synthetic scenes")
    weights = ("--weights", tmp_path / "trained" / "best.safetensors")
    fuse = ("fuse", *pair, "-o", tmp_path / "fused.png", *weights)
    assert run(*fuse)[0] == 0  # the weights name their encoder
    assert run(*fuse, "--encoder", clip)[0] == 0
    status, _, said = run(*fuse, "--encoder", other)
    assert status == 2 and clip in said and other in said
    status, said, _ = run(*train, "--encoder", clip)
    assert status == 0 and "going on after step 2 of 2" in said


@pytest.fixture
def cameras(tmp_path):
    """A data root with twelve own pairs, MyCams, whose infrared images are raw counts."""
    for part, low in (("ir", 7000), ("vi", 0)):
        (tmp_path / "MyCams" / part).mkdir(parents=True)
        for i in range(12):
            levels = np.random.default_rng(i).integers(0, 256, (48, 48))
            image = low + levels.astype(np.uint16 if low else np.uint8)
            Image.fromarray(image).save(tmp_path / "MyCams" / part / f"{i}.png")
    return tmp_path


def test_r69_training_on_own_pairs_says_and_records_how_they_were_divided(cameras, run):
    pairs = ("--pairs", cameras / "MyCams" / "ir", cameras / "MyCams" / "vi")
    rest = ("--steps", 1, "--batch", 1, "--crop", 48, "--ir-range", 7000, 7255)
    rest += ("--lr-peak", "2e-4", "--loss-weight", "0.7")
    out = ("--out", cameras / "out")
    status, said, told = run("train", "--preset", "cpu", *pairs, *rest, *out, "--val-share", 0.25)
    assert status == 0, told
    assert "MyCams: your own pairs, 9 train, 3 validate (--val-share), none is a test pair" in said
    record = load_weights(cameras / "out" / "last.safetensors").record
    names = ("steps", "batch", "crop", "lr_peak", "loss_weight")
    assert [record["config"][key] for key in names] == [1, 1, 48, 2e-4, 0.7]
    assert record["train_pairs"] == {"MyCams": 9} and record["val_pairs"] == 3
    (division,) = record["division"]
    assert division["folders"] == ["MyCams/ir", "MyCams/vi"]
    assert [division[part] for part in ("train", "val", "test")] == [9, 3, 0]
    assert "your own" in division["rule"] and record["reading"] == {"ir_range": [7000, 7255]}
    named = ("--data-root", cameras, "--dataset", "MyCams")
    again = run("train", "--preset", "cpu", *named, *rest, *out, "--val-share", 0.25)
    assert again[0] == 0 and "going on after step 1 of 1" in again[1]  # the same images
    status, _, told = run("train", "--data-root", cameras)
    assert status == 2 and "`train --dataset MyCams`" in told


def test_r69_without_validation_the_last_weights_are_named(cameras, run):
    named = ("--data-root", cameras, "--dataset", "MyCams", "--val-share", 0)
    rest = ("--steps", 1, "--crop", 48, "--ir-range", 7000, 7255, "--out", cameras / "out")
    status, said, _ = run("train", "--preset", "quick", *named, *rest)
    assert status == 0 and "12 train, 0 validate" in said and "quick uses 4 and 0" in said
    assert "last.safetensors: not validated" in said


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--val-share", "0.2", "--data-root", "synthetic"), "is for your own pairs"),
        (("--dataset", "Mars", "--data-root", "."), "has no Mars"),
        (("--pairs", "a", "b", "--dataset", "x"), "give neither"),
        (("--pairs", "a", "b", "c"), "IR_DIR VI_DIR"),
    ],
)
def test_r69_impossible_choices_of_pairs_are_explained(given, told, run):
    status, _, said = run("train", "--preset", "quick", *given)
    assert status == 2 and told in said


def test_each_process_of_torchrun_names_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch, "empty", lambda size, device: None)
    assert check_device("cuda") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert check_device("cuda") == torch.device("cuda", 1)
    assert check_device("cuda:0") == torch.device("cuda", 0)
    assert check_device("cpu") == torch.device("cpu")
