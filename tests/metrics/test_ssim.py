import pytest
from skimage.metrics import structural_similarity

from fusionlib.metrics import ssim


def test_scikit_image_agrees(triple):
    ir, vi, fused = triple
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = sum(structural_similarity(x, fused, data_range=255, **wang) for x in (ir, vi))
    assert ssim(ir, vi, fused) == pytest.approx(expected, rel=1e-11)


def test_one_window_of_constants_by_hand():
    # no variance: only the first factor differs from 1
    ir, vi, fused = ([[level] * 11] * 11 for level in (10, 100, 30))
    expected = sum((2 * x * 30 + 6.5025) / (x * x + 900 + 6.5025) for x in (10, 100))
    assert ssim(ir, vi, fused) == pytest.approx(expected, rel=1e-9)
