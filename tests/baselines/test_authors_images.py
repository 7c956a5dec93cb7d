"""Fused images made with the authors' own code and weights; they are in no repository.

One image of each method runs by default, the others with ``-m slow``.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusionlib.baselines import METHODS
from fusionlib.images import read_ir, read_vi, save_image

NETWORKS = [name for name, method in METHODS.items() if method.weights]
IMAGES = ("RoadScene_FLIR_00211", "RoadScene_FLIR_00006", "TNO_03", "TNO_17", "TNO_30")
CASES = [
    pytest.param(name, image, marks=[pytest.mark.slow] if image != IMAGES[0] else [])
    for name in NETWORKS
    for image in IMAGES
]


def source(dataset, part, name):
    """A source image, found without the code under test; skips where there is none."""
    folder = Path(os.environ.get("FUSIONLIB_DATA") or "nowhere") / dataset / part
    found = sorted(folder.glob(f"{name}.*"))
    if not found:
        pytest.skip(f"FUSIONLIB_DATA has no {dataset}/{part}/{name}")
    return found[0]


@pytest.mark.parametrize(("name", "image"), CASES)
def test_a_published_network_gives_its_authors_image(tmp_path, name, image):
    if not os.environ.get("FUSIONLIB_WEIGHTS"):
        pytest.skip("FUSIONLIB_WEIGHTS is not set")
    expected = Path(os.environ["FUSIONLIB_WEIGHTS"]).parent / "baseline_oracle" / name
    if not (expected / f"{image}.png").is_file():
        pytest.skip(f"no {expected / image}.png")
    if (reason := METHODS[name].missing()) is not None:
        pytest.skip(reason)
    dataset, stem = image.split("_", 1)
    ir, vi = read_ir(source(dataset, "ir", stem)), read_vi(source(dataset, "vi", stem))
    saved = save_image(tmp_path / "fused.png", METHODS[name].fuse(ir, vi))
    ours, theirs = (
        np.asarray(Image.open(path)).astype(int) for path in (saved, expected / f"{image}.png")
    )
    assert ours.shape == theirs.shape
    difference = np.abs(ours - theirs)
    assert (difference <= 1).mean() >= 0.999
    assert (difference == 0).mean() >= 0.999  # nothing but the order of additions differs
