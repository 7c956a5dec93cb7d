"""Which pairs and which crops a step sees."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from textures import write_pairs

from fusionlib.crops import Images, batch_indices
from fusionlib.datasets import Pair


@pytest.mark.parametrize(("pairs", "batch"), [(12, 4), (10, 4), (3, 4), (7, 1), (5, 10)])
def test_every_pair_is_seen_once_an_epoch(pairs, batch):
    epochs = 4
    steps = math.ceil(epochs * pairs / batch)
    seen = [index for step in range(steps) for index in batch_indices(step, pairs, batch, 5)]
    orders = [seen[epoch * pairs : (epoch + 1) * pairs] for epoch in range(epochs)]
    assert all(sorted(order) == list(range(pairs)) for order in orders)
    assert len(seen) == steps * batch
    if pairs > 4:
        assert len({tuple(order) for order in orders}) > 1
        assert seen != [i for step in range(steps) for i in batch_indices(step, pairs, batch, 6)]


@pytest.fixture
def coordinates(tmp_path):
    """One pair whose pixels say where they are: red the row, green the column."""
    rows, columns = np.mgrid[0:40, 0:48].astype(np.uint8)
    Image.fromarray(np.dstack([rows, columns, 0 * rows])).save(tmp_path / "vi.png")
    Image.fromarray(3 * rows + 2 * columns).save(tmp_path / "ir.png")
    return Images([Pair("C", "0", tmp_path / "ir.png", tmp_path / "vi.png")], 16)


def test_both_images_get_the_same_crop_turn_and_flip(coordinates):
    corners, turns = set(), Counter()
    for seed in range(300):
        ir, vi = coordinates.crops([0], 16, np.random.default_rng(seed))
        assert ir.shape == (1, 1, 16, 16) and vi.shape == (1, 3, 16, 16)
        assert ir.dtype == vi.dtype == torch.float32
        ir, (rows, columns, _) = (x[0].mul(255).round().int() for x in (ir, vi))
        assert torch.equal(ir[0], 3 * rows + 2 * columns)
        top, left = int(rows.min()), int(columns.min())
        window = {(r, c) for r in range(top, top + 16) for c in range(left, left + 16)}
        assert set(zip(rows.flatten().tolist(), columns.flatten().tolist(), strict=True)) == window
        corners.add((top, left))
        right = rows[0, 1] - rows[0, 0], columns[0, 1] - columns[0, 0]
        down = rows[1, 0] - rows[0, 0], columns[1, 0] - columns[0, 0]
        turns[tuple(int(x) for x in (*right, *down))] += 1
    signs = (-1, 1)
    straight = {(0, a, b, 0) for a in signs for b in signs}
    assert turns.keys() == straight | {(a, 0, 0, b) for a in signs for b in signs}
    assert min(turns.values()) > 15  # 37.5 expected
    assert {top for top, _ in corners} == set(range(25))
    assert {left for _, left in corners} == set(range(33))


def test_fingerprint_sees_each_grey_level_shape_and_order(tmp_path):
    pairs = write_pairs(tmp_path, 2)
    before = Images(pairs, 16).fingerprint
    assert Images(pairs[::-1], 16).fingerprint != before
    with Image.open(pairs[1].vi) as image:
        image.load()
    red, green, blue = image.getpixel((7, 9))
    image.putpixel((7, 9), (red, green, blue ^ 1))
    image.save(pairs[1].vi)
    assert Images(pairs, 16).fingerprint != before


def test_pairs_lower_than_a_crop_are_enlarged_until_it_fits(tmp_path):
    """Both images alike, bicubic, aspect kept; larger ones stay as they are."""
    low, enough = write_pairs(tmp_path / "low", 1, 24, 48), write_pairs(tmp_path / "enough", 1)
    images = Images([*low, *enough], 32)
    assert images.images[0].shape == (32, 64, 4)
    ir, vi = images.images[0][..., 0], images.images[0][..., 1:]
    for image, path in ((ir, low[0].ir), (vi, low[0].vi)):
        with Image.open(path) as stored:
            expected = stored.resize((64, 32), Image.Resampling.BICUBIC)
        assert np.array_equal(image, expected)
    assert np.array_equal(images.images[1], Images(enough, 8).images[0])
    ir, vi = images.crops([0, 1], 32, np.random.default_rng(0))
    assert ir.shape == (2, 1, 32, 32) and vi.shape == (2, 3, 32, 32)
