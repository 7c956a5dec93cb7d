"""Average, maximum and Laplacian pyramid against values found by hand."""

from itertools import pairwise

import numpy as np
import pytest

from fusionlib.baselines import METHODS
from fusionlib.baselines.classical import LEVELS, compose, decompose

CLASSICAL = [name for name, method in METHODS.items() if method.group == "classical"]


def rgb(y):
    return np.repeat(np.asarray(y, np.float32)[:, :, None], 3, axis=2)


def scene(height, width, seed=0):
    return np.random.default_rng(seed).random((height, width), dtype=np.float32)


def fuse(name, ir, y):
    return METHODS[name].fuse(np.asarray(ir, np.float32), rgb(y))


def test_average_and_maximum_by_hand():
    ir, y = [[0.0, 0.5], [1.0, 0.25]], [[1.0, 0.25], [1.0, 0.75]]
    np.testing.assert_allclose(fuse("average", ir, y), [[0.5, 0.375], [1, 0.5]], atol=1e-6)
    np.testing.assert_allclose(fuse("maximum", ir, y), [[1, 0.5], [1, 0.75]], atol=1e-6)


def test_colour_counts_by_its_luma():
    ir, vi = np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32)[None]  # red, green, blue
    luma = [[0.299, 0.587, 0.114]]
    np.testing.assert_allclose(METHODS["maximum"].fuse(ir, vi), luma, atol=1e-6)
    np.testing.assert_allclose(METHODS["laplacian"].fuse(ir, vi), np.divide(luma, 2), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 3), (5, 4), (33, 58), (64, 64), (31, 85)])
@pytest.mark.parametrize("name", CLASSICAL)
def test_r17_identical_inputs_of_any_size_return_the_input(name, size):
    image = scene(*size)
    fused = fuse(name, image, image)
    assert fused.shape == size and fused.dtype == np.float32
    np.testing.assert_allclose(fused, image, atol=1e-6)


@pytest.mark.parametrize("name", CLASSICAL)
def test_the_order_of_the_images_does_not_matter(name):
    a, b = scene(33, 58, 1), scene(33, 58, 2)
    np.testing.assert_allclose(fuse(name, a, b), fuse(name, b, a), atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (37, 91), (4, 4), (3, 99)])
def test_a_pyramid_is_put_together_again(size):
    image = scene(*size).astype(np.float64)
    bands, rest = decompose(image)
    assert len(bands) <= LEVELS and min(rest.shape) < max(4, min(size))
    shapes = [band.shape for band in bands] + [rest.shape]
    assert shapes[0] == size
    for finer, coarser in pairwise(shapes):
        assert coarser == tuple(-(-side // 2) for side in finer)  # rounded up
    np.testing.assert_allclose(compose(bands, rest), image, atol=1e-12)


def test_flat_images_have_no_detail_and_are_averaged():
    np.testing.assert_allclose(
        fuse("laplacian", np.full((32, 48), 0.2), np.full((32, 48), 0.8)), 0.5, atol=1e-6
    )
    assert all(np.abs(band).max() < 1e-12 for band in decompose(np.full((32, 48), 0.3))[0])


def test_detail_of_either_image_survives_where_the_other_is_flat():
    flat = np.full((64, 64), 0.5)
    stripes = flat + 0.2 * (-1.0) ** np.arange(64)  # the finest detail, mean 0.5
    inside = slice(8, -8)
    fused = fuse("laplacian", stripes, flat)
    np.testing.assert_allclose(fused[inside, inside], stripes[inside, inside], atol=0.02)
    np.testing.assert_allclose(fuse("laplacian", flat, stripes), fused, atol=1e-6)
    np.testing.assert_allclose(fuse("average", stripes, flat), (stripes + flat) / 2, atol=1e-6)


def test_results_stay_between_black_and_white():
    a, b = (scene(48, 48, 3) > 0.5).astype(float), (scene(48, 48, 4) > 0.5).astype(float)
    fused = fuse("laplacian", a, b)
    assert fused.min() == 0 and fused.max() == 1
