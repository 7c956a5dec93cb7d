import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import read_scene

from fusionlib import inference
from fusionlib.datasets import Pair
from fusionlib.errors import ImageError, PairError
from fusionlib.images import luma, save_image
from fusionlib.tiles import GPU_TILE, TILE, fuse_banded


@pytest.fixture(scope="module")
def fuser():
    return inference.load_fuser()


def random_pair(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.random((height, width), dtype=np.float32),
        rng.random((height, width, 3), dtype=np.float32),
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (3, 17), (33, 65)])
def test_r05_r17_the_output_has_exactly_the_input_size(fuser, size):
    fused = fuser(*random_pair(*size))
    assert fused.shape == size and fused.dtype == np.float32
    assert fused.min() >= 0 and fused.max() <= 1
    assert np.array_equal(fuser(*random_pair(*size)), fused)


def test_r15_constant_images_are_not_stretched(fuser):
    fused = fuser(np.full((48, 64), 0.25, np.float32), np.full((48, 64, 3), 0.25, np.float32))
    inner = fused[8:-8, 8:-8]
    # a stretched constant would be black or white; not every level is kept so well (model card)
    assert np.ptp(inner) < 0.01 and abs(inner.mean() - 0.25) < 0.1


@pytest.mark.parametrize("scene", ["night_street", "night_crossing", "dusk_camp"])
def test_people_and_lamps_stay_bright_also_in_bf16(fuser, scene):
    ir, vi = (picture / np.float32(255) for picture in read_scene(scene))
    fused = fuser(ir, vi)
    for source in (ir, luma(vi)):
        bright = source > 0.8
        assert bright.sum() > 300
        assert abs(np.median(fused[bright]) - np.median(source[bright])) < 0.1
    short = dataclasses.replace(fuser, precision="bf16")
    changed = np.abs(np.rint(255 * short(ir, vi)) - np.rint(255 * fused))
    assert (changed <= 1).mean() >= 0.99
    assert 0 < changed.max() <= 3  # so it is another precision
    assert short.net.decoder[-2].weight.dtype == torch.bfloat16


def test_a_person_hidden_in_the_visible_image_is_seen_in_the_fused_one(fuser):
    ir, vi = (picture / np.float32(255) for picture in read_scene("hidden_person"))
    person = ir > 0.5
    assert 500 < person.sum() < 0.1 * person.size
    before, after = (x[person].mean() - x[~person].mean() for x in (luma(vi), fuser(ir, vi)))
    assert before < 0.1 < after


def test_values_and_shapes_that_do_not_fit_are_refused(fuser):
    ir, vi = random_pair(20, 20)
    with pytest.raises(PairError, match=r"\(20, 19\)"):
        fuser(ir[:, 1:], vi)
    for bad in (-0.1, 1.1, np.nan):
        ir[3, 4] = bad
        with pytest.raises(ImageError, match="ir"):
            fuser(ir, vi)


def save_pair(folder, name, ir, vi):
    return Pair(
        "", name, save_image(folder / "ir" / name, ir), save_image(folder / "vi" / name, vi)
    )


def test_r14_colour_is_that_of_the_visible_image_if_it_has_any(fuser, tmp_path):
    ir, vi = random_pair(32, 40)
    vi = 0.4 + 0.2 * vi  # far from black and white, so that nothing is clipped
    pair = save_pair(tmp_path, "a.png", 0.3 + 0.4 * ir, vi)
    fused = inference.fuse_pair(fuser, pair)

    def chroma(image):
        pixels = Image.fromarray(np.rint(image * 255).astype(np.uint8)).convert("YCbCr")
        return np.asarray(pixels, dtype=int)[:, :, 1:]

    assert np.abs(chroma(fused) - chroma(vi)).max() <= 2
    grey = inference.fuse_pair(fuser, pair, grey=True)
    assert np.allclose(luma(fused), grey, atol=1e-3)
    assert inference.fuse_pair(fuser, save_pair(tmp_path, "b.png", ir, luma(vi))).ndim == 2


def test_r03_other_sizes_are_found_before_anything_is_written(fuser, tmp_path):
    good = save_pair(tmp_path, "a.png", *random_pair(24, 24))
    bad = save_pair(tmp_path, "b.png", random_pair(24, 24)[0], random_pair(24, 30)[1])
    with pytest.raises(PairError, match=r"b\.png is 24×24 but .*b\.png is 30×24.*--resize"):
        list(inference.fuse_files(fuser, [good, bad], tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    written = list(inference.fuse_files(fuser, [bad], tmp_path / "out", resize="ir-to-vi"))
    assert Image.open(written[0]).size == (30, 24)


# --- Large images, and little memory --------------------------------------------------------------


def test_r16_an_image_of_many_tiles_is_fused_as_a_whole(fuser):
    ir, vi = random_pair(2 * TILE + 5, TILE + 30)
    y, rgb = torch.from_numpy(ir)[None, None], torch.from_numpy(vi).permute(2, 0, 1)[None]
    with torch.no_grad():
        features = fuser.encoder(y), fuser.encoder(rgb)
        whole = (fuser.weights.net(2 * y - 1, 2 * rgb - 1, *features)[0, 0] + 1) / 2
    assert np.abs(fuser(ir, vi) - whole.numpy()).max() < 1e-5


class Scarce:
    """`fuse_banded` on a machine where only tiles below a size fit."""

    def __init__(self, error, largest):
        self.error, self.largest, self.tiles = error, largest, []

    def __call__(self, *inputs, tile):
        self.tiles.append(tile)
        if tile > self.largest:
            raise self.error
        return fuse_banded(*inputs, tile=tile)


OUT_OF_MEMORY = [
    pytest.param(MemoryError(), id="python"),
    pytest.param(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), id="gpu"),
    pytest.param(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), id="linux"),
    pytest.param(RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), id="windows"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_r42_out_of_memory_is_followed_by_one_try_in_smaller_tiles(fuser, monkeypatch, error):
    """On a GPU, which only its name is here; on a CPU smaller tiles would not help."""
    images = inference.to_tensors(*random_pair(50, 100))
    inputs = [2 * image - 1 for image in images] + [fuser.encoder(image) for image in images]
    gpu = dataclasses.replace(fuser, device=torch.device("cuda"))
    expected = fuse_banded(gpu.net, *inputs, tile=GPU_TILE // 2)
    scarce = Scarce(error, GPU_TILE - 1)
    monkeypatch.setattr(inference, "fuse_banded", scarce)
    with pytest.warns(RuntimeWarning, match=f"100×50: out of memory.*{GPU_TILE // 2} pixels"):
        fused = gpu._in_bands(*inputs)
    assert torch.equal(fused, expected)
    scarce.largest = 0  # nor is there a third try
    with (
        pytest.warns(RuntimeWarning, match="out of memory"),
        pytest.raises(ImageError, match=r"100×50: not enough memory on cuda.*0\.0 GB"),
    ):
        gpu._in_bands(*inputs)
    with pytest.raises(ImageError, match=r"100×50: not enough memory on cpu.*0\.0 GB"):
        fuser._in_bands(*inputs)
    assert scarce.tiles == [GPU_TILE, GPU_TILE // 2] * 2 + [TILE]


def test_r42_other_errors_are_not_taken_for_it(fuser, monkeypatch):
    scarce = Scarce(RuntimeError("expected a tensor of another shape"), 0)
    monkeypatch.setattr(inference, "fuse_banded", scarce)
    with pytest.raises(RuntimeError, match="another shape"):
        fuser(*random_pair(20, 20))
    assert scarce.tiles == [TILE]
