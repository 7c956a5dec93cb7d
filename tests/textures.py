"""Pairs on disk that are quick to make and have nothing to do with each other."""

import numpy as np
from PIL import Image

from fusionlib.datasets import Pair


def write_pairs(folder, count, height=40, width=48, seed=0):
    """Random textures, the infrared one smoother."""
    rng = np.random.default_rng(seed)
    pairs = []
    for index in range(count):
        ir = np.kron(rng.integers(256, size=(height // 8, width // 8)), np.ones((8, 8)))
        vi = rng.integers(256, size=(height, width, 3))
        paths = folder / "ir" / f"{index}.png", folder / "vi" / f"{index}.png"
        for path, values in zip(paths, (ir, vi), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(path)
        pairs.append(Pair("Textures", str(index), *paths))
    return pairs


def touch(folder, *names):
    """Make a folder, and empty files in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
