"""The same results on a CUDA device; without one these are skipped. `make test-gpu` runs them."""

import dataclasses

import numpy as np
import pytest
import torch
from trainings import CONFIG, build_encoder

from fusionlib import inference
from fusionlib.recipe import PRESETS
from fusionlib.splits import drawn_scenes
from fusionlib.tiles import fuse_banded
from fusionlib.training import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def exact():
    """Without TensorFloat-32, which keeps 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def images(height, width):
    rng = np.random.default_rng(0)
    return rng.random((height, width), np.float32), rng.random((height, width, 3), np.float32)


@pytest.mark.parametrize("size", [(61, 45), (480, 640)])
def test_fused_images_are_those_of_the_cpu(size):
    pair = images(*size)
    expected = inference.load_fuser()(*pair)
    fused = inference.load_fuser(device="cuda")(*pair)
    np.testing.assert_allclose(fused, expected, rtol=0, atol=1e-4)


def test_bf16_moves_few_pixels_by_a_grey_level():
    pair = images(240, 320)
    expected = inference.load_fuser(device="cuda")(*pair)
    fused = inference.load_fuser(device="cuda", precision="bf16")(*pair)
    assert (np.abs(fused - expected) < 1 / 255).mean() > 0.99


def test_r43_tiles_are_the_whole_image():
    fuser = inference.load_fuser(device="cuda")
    ir, vi = inference.to_tensors(*images(150, 130), fuser.device)
    inputs = 2 * ir - 1, 2 * vi - 1, fuser.encoder(ir), fuser.encoder(vi)
    with torch.inference_mode():
        expected = fuser.net(*inputs)
    for tile in (40, 1024):
        found = fuse_banded(fuser.net, *inputs, tile=tile)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_first_losses_are_those_of_the_cpu(tmp_path):
    pairs = drawn_scenes()["train"]
    logs = [
        Trainer(CONFIG, build_encoder(), pairs, pairs[:1], tmp_path / device, device).run()
        for device in ("cpu", "cuda")
    ]
    for column in ("loss", "loss_int", "loss_grad"):
        cpu, cuda = ([row[column] for row in log[:3]] for log in logs)
        assert cuda == pytest.approx(cpu, rel=1e-3), column


def test_r38_stopped_and_resumed_training_goes_on(tmp_path):
    pairs = drawn_scenes()["train"]
    folder = tmp_path / "run"
    Trainer(CONFIG, build_encoder(), pairs, [], folder, "cuda").run(until=3)
    log = Trainer(CONFIG, build_encoder(), pairs, [], folder, "cuda").run()
    assert [row["step"] for row in log] == list(range(CONFIG.steps))
    assert all(np.isfinite(row["loss"]) for row in log)


def test_the_shipped_recipe_trains_compiled(tmp_path):
    config = dataclasses.replace(PRESETS["cpu"], steps=3, batch=4, crop=64, validate_every=3)
    pairs = drawn_scenes()["train"]
    log = Trainer(config, build_encoder(), pairs, [], tmp_path, "cuda", compiled=True).run()
    assert len(log) == 3 and all(np.isfinite(row["loss"]) for row in log)
