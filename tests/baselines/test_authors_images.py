"""Fused images made with the authors' own code and weights; they are in no repository.

One image of each method runs by default, the others with ``-m slow``.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusionlib.baselines import METHODS
from fusionlib.images import read_ir, read_vi, save_image

ORACLE = Path(os.environ.get("FUSIONLIB_WEIGHTS") or "nowhere").parent / "baseline_oracle"
IMAGES = ("RoadScene_FLIR_00211", "RoadScene_FLIR_00006", "TNO_03", "TNO_17", "TNO_30")
OF_SAGE = ("RoadScene_FLIR_00306", "MSRS_00927N", "TNO_03")
CASES = [
    pytest.param(name, image, marks=[pytest.mark.slow] if i else [])
    for name in METHODS
    if METHODS[name].weights and name != "DenseFuse"
    for i, image in enumerate(OF_SAGE if name == "SAGE" else IMAGES)
]


def sources(image):
    """Infrared and visible image, found without the code under test; skips where there are none."""
    dataset, name = image.split("_", 1)
    root = Path(os.environ.get("FUSIONLIB_DATA") or "nowhere") / dataset
    ir, vi = (next((root / part).glob(f"{name}.*"), None) for part in ("ir", "vi"))
    if ir is None or vi is None:
        pytest.skip(f"FUSIONLIB_DATA has no {dataset}/{name}")
    return read_ir(ir), read_vi(vi)


def published(name, image):
    """Grey levels of the authors' fused image; skips where it or the weights are not there."""
    path = ORACLE / name / f"{image}.png"
    if reason := METHODS[name].missing() or (None if path.is_file() else f"no {path}"):
        pytest.skip(reason)
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.parametrize(("name", "image"), CASES)
def test_a_published_network_gives_its_authors_image(tmp_path, name, image):
    theirs = published(name, image)
    saved = save_image(tmp_path / "fused.png", METHODS[name].fuse(*sources(image)))
    difference = np.abs(np.asarray(Image.open(saved)).astype(int) - theirs)
    assert (difference == 0).mean() >= 0.999  # nothing but the order of additions differs


@pytest.mark.parametrize(
    ("image", "share"),
    [("TNO_12", 0.999), ("TNO_17", 0.999), ("TNO_01", 0.98), ("TNO_03", 0.98), ("TNO_30", 0.95)],
)
def test_densefuse_gives_a_benchmarks_images_once_it_is_stretched_as_they_were(image, share):
    """The benchmark's sources differ from ours near the border of some images."""
    theirs = published("DenseFuse", image)
    levels = [torch.from_numpy(255 * y)[None, None] for y in sources(image)]
    ir, vi = levels[0], levels[1][..., 0]
    with torch.inference_mode():
        fused = METHODS["DenseFuse"].network()(ir, vi)[0, 0].numpy()
    stretched = np.rint((fused - fused.min()) / (fused.max() - fused.min()) * 255)
    assert (np.abs(stretched - theirs) <= 1).mean() >= share
