"""The drawn scenes and the real pairs that come with the repository."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fusionlib.checks import compare_with_list, inspect_pairs
from fusionlib.datasets import SCENES, SYNTHETIC, find_pairs, pair_folders
from fusionlib.files import REPOSITORY

REAL_PAIRS = REPOSITORY / "data" / "real"


@pytest.mark.long
def test_drawing_again_gives_the_committed_pictures(tmp_path):
    command = [sys.executable, "-B", str(SCENES / "draw.py"), str(tmp_path)]
    subprocess.run(command, check=True, timeout=300)
    drawn = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")}
    assert drawn == {path.relative_to(SCENES) for path in SCENES.rglob("*.png")}
    for path in drawn:
        again, committed = (np.asarray(Image.open(root / path)) for root in (tmp_path, SCENES))
        assert again.shape == committed.shape
        # equal where it was drawn; another processor may round the last bit another way
        assert (again != committed).mean() < 1e-3, path


def test_the_pictures_are_those_of_the_list():
    pairs = find_pairs(SCENES, SYNTHETIC)
    assert len(pairs) == 16 and compare_with_list(pairs, SYNTHETIC) == []
    assert inspect_pairs(pairs) == (pairs, [])  # nor does any look shifted


def test_real_pairs_can_be_fused_and_name_their_licence():
    pairs = pair_folders(REAL_PAIRS / "ir", REAL_PAIRS / "vi")
    assert len(pairs) == 17 and "mug" in {pair.name for pair in pairs}
    assert inspect_pairs(pairs)[0] == pairs  # raises if two sizes differ
    assert "CC0 1.0 Universal" in (REAL_PAIRS / "LICENSE-mug").read_text(encoding="utf-8")
    assert "MIT License" in (REAL_PAIRS / "LICENSE-road").read_text(encoding="utf-8")
