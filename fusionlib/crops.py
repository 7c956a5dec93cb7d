"""Training pairs in memory, and which crops of them a step sees.

All is drawn from generators seeded with (seed, step) alone, so a training can go on anywhere.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from fusionlib.datasets import Pair, load_pair
from fusionlib.errors import TrainingError


class Images:
    """Training pairs in memory as 8-bit grey levels.

    Args:
        pairs: what to read.
        crop: least side an image must have; both images of a smaller pair are enlarged to it.
        reading: options of `fusionlib.datasets.load_pair`.

    Raises:
        TrainingError: no pairs.
    """

    def __init__(self, pairs: Sequence[Pair], crop: int, **reading: object):
        if not pairs:
            raise TrainingError(
                "there are no training pairs; see `python -m fusionlib data status`"
            )
        self.pairs = list(pairs)
        self.images: list[np.ndarray] = []  # (H, W, 4) uint8: infrared, red, green, blue
        for pair in tqdm(pairs, desc="reading", unit="pair", leave=False):
            both = (np.rint(image * 255).astype(np.uint8) for image in load_pair(pair, **reading))
            self.images.append(np.dstack([enlarged(image, crop) for image in both]))

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all grey levels, in order: what was trained on, whatever the files say."""
        digest = hashlib.sha256()
        for part in (np.s_[..., 0], np.s_[..., 1:]):  # all infrared images, then all visible ones
            for image in self.images:
                digest.update(f"{image[part].shape}".encode())
                digest.update(np.ascontiguousarray(image[part]))
        return digest.hexdigest()

    def crops(
        self, indices: Sequence[int], crop: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Random crops, flipped and turned by multiples of 90°, the same way in both images.

        Returns:
            Infrared (B, 1, crop, crop) and visible (B, 3, crop, crop), float32 in [0, 1].
        """
        out = []
        for index in indices:
            height, width, _ = self.images[index].shape
            top, left = rng.integers(height - crop + 1), rng.integers(width - crop + 1)
            both = self.images[index][top : top + crop, left : left + crop]
            both = np.rot90(both, rng.integers(4))
            out.append(both[:, ::-1] if rng.integers(2) else both)
        batch = torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float() / 255  # (B, 4, c, c)
        return batch[:, :1].contiguous(), batch[:, 1:].contiguous()


def enlarged(image: np.ndarray, least: int) -> np.ndarray:
    """An image no side of which is below ``least``: as it is, or scaled up (bicubic).

    Args:
        image: (H, W) or (H, W, 3), uint8.
        least: pixels.
    """
    height, width = image.shape[:2]
    scale = least / min(height, width)
    if scale <= 1:
        return image
    size = (max(least, round(width * scale)), max(least, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def batch_indices(step: int, pairs: int, batch: int, seed: int) -> list[int]:
    """Which pairs a step sees: consecutive cuts from one permutation an epoch, without end."""
    indices = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, pairs)
        order = np.random.default_rng([seed, 1, epoch]).permutation(pairs)
        indices.append(int(order[place]))
    return indices
