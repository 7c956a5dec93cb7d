import numpy as np
import pytest
from scipy import ndimage

from fusionlib.metrics import filters
from fusionlib.metrics.filters import bands, gaussian, smooth, sobel


def test_sobel_on_a_hand_made_image():
    image = np.array([[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]], float)
    g_x, g_y = sobel(image)
    # left pixel of the first row: right column 0·1 + 1·2 + 1·1, left column 0
    assert g_x.tolist() == [[3, 0], [3, 0]]
    # lower row minus upper row: (0 + 0 + 1·1) − 0 on the left, (0 + 2·1 + 0) − 0 on the right
    assert g_y.tolist() == [[1, 2], [-1, -2]]


def test_sobel_is_that_of_scipy_inside_a_zero_border():
    image = np.random.default_rng(0).integers(0, 256, (9, 13)).astype(float)
    g_x, g_y = sobel(np.pad(image, 1))
    assert (g_x == ndimage.sobel(image, axis=1, mode="constant")).all()
    assert (g_y == ndimage.sobel(image, axis=0, mode="constant")).all()


def test_a_gaussian_by_hand():
    window = gaussian(3, 0.6)
    side = np.exp(-1 / 0.72)
    assert window == pytest.approx(np.array([side, 1, side]) / (1 + 2 * side), rel=1e-15)
    assert gaussian(17, 3.4).sum() == pytest.approx(1, rel=1e-15)


@pytest.mark.parametrize("size", [3, 11, 17])
def test_smooth_is_scipys_correlation_where_the_window_fits(size):
    image = np.random.default_rng(1).normal(size=(20, 31))
    window, half = gaussian(size, size / 5), size // 2
    outside = ndimage.correlate(image, np.outer(window, window), mode="constant")
    inside = outside[half : 20 - half, half : 31 - half]
    assert smooth(image, window) == pytest.approx(inside, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 10**6), (333, 41), (5000, 700)])
def test_bands_cover_every_row_once(height, width):
    rows = [row for top, end in bands(height, width) for row in range(top, end)]
    assert rows == list(range(height))


def test_the_height_of_bands_does_not_matter(triple, monkeypatch):
    from fusionlib.metrics import Sources, measure

    ir, vi, fused = triple
    whole = measure(Sources(ir, vi), fused)
    monkeypatch.setattr(filters, "BAND", 17 * ir.shape[1])  # odd, and no divisor of the height
    banded = measure(Sources(ir, vi), fused)
    for name, (value, _) in whole.items():
        assert banded[name].value == pytest.approx(value, rel=1e-12), name
