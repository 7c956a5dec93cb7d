"""Average, maximum and Laplacian pyramid against values found by hand."""

import numpy as np
import pytest

from fusionlib.baselines import METHODS
from fusionlib.baselines.classical import compose, decompose

CLASSICAL = [name for name, method in METHODS.items() if method.group == "classical"]


def scene(height, width, seed=0):
    return np.random.default_rng(seed).random((height, width), dtype=np.float32)


def fuse(name, ir, y):
    return METHODS[name].fuse(np.asarray(ir, np.float32), np.dstack([np.float32(y)] * 3))


def test_average_and_maximum_by_hand():
    ir, y = [[0.0, 0.5], [1.0, 0.25]], [[1.0, 0.25], [1.0, 0.75]]
    np.testing.assert_allclose(fuse("average", ir, y), [[0.5, 0.375], [1, 0.5]], atol=1e-6)
    np.testing.assert_allclose(fuse("maximum", ir, y), [[1, 0.5], [1, 0.75]], atol=1e-6)
    ir, vi = np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32)[None]  # red, green, blue
    luma = [[0.299, 0.587, 0.114]]
    np.testing.assert_allclose(METHODS["maximum"].fuse(ir, vi), luma, atol=1e-6)
    np.testing.assert_allclose(METHODS["laplacian"].fuse(ir, vi), np.divide(luma, 2), atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 4), (64, 64), (31, 85)])
@pytest.mark.parametrize("name", CLASSICAL)
def test_r17_identical_inputs_of_any_size_return_the_input(name, size):
    a, b = scene(*size), scene(*size, seed=1)
    fused = fuse(name, a, a)
    assert fused.shape == size and fused.dtype == np.float32
    np.testing.assert_allclose(fused, a, atol=1e-6)
    np.testing.assert_allclose(fuse(name, a, b), fuse(name, b, a), atol=1e-6)  # in any order


def test_a_pyramid_is_put_together_again():
    image = scene(37, 91).astype(np.float64)
    bands, rest = decompose(image)
    assert [band.shape for band in bands] == [(37, 91), (19, 46), (10, 23), (5, 12)]
    assert rest.shape == (3, 6)
    np.testing.assert_allclose(compose(bands, rest), image, atol=1e-12)


def test_detail_of_either_image_survives_and_flat_ones_are_averaged():
    flat = np.full((64, 64), 0.5)
    stripes = flat + 0.2 * (-1.0) ** np.arange(64)  # the finest detail, mean 0.5
    inside = slice(8, -8)
    fused = fuse("laplacian", stripes, flat)
    np.testing.assert_allclose(fused[inside, inside], stripes[inside, inside], atol=0.02)
    np.testing.assert_allclose(fuse("laplacian", flat - 0.3, flat + 0.3), 0.5, atol=1e-6)
    black_and_white = [(scene(48, 48, seed) > 0.5).astype(float) for seed in (3, 4)]
    fused = fuse("laplacian", *black_and_white)
    assert fused.min() == 0 and fused.max() == 1
