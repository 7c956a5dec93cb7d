"""Each metric against another implementation, or its definition with SciPy's filters."""

import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import pearsonr
from sewar.full_ref import vifp
from skimage.metrics import structural_similarity

from fusionlib.metrics import ag, qabf, qcv, scd, ssim, vif, viff


def sobel(image):
    return [ndimage.sobel(image, axis, mode="constant") for axis in (1, 0)]


def qabf_by_the_letter(*images):
    def edges(image):
        g_x, g_y = sobel(image.astype(float))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.hypot(g_x, g_y), np.where(g_x == 0, np.pi / 2, np.arctan(-g_y / g_x))

    ir, vi, (g_f, a_f) = map(edges, images)
    top = bottom = 0
    for g_s, a_s in (ir, vi):
        with np.errstate(invalid="ignore"):
            ratio = np.where(g_s == g_f, g_f, np.minimum(g_s, g_f) / np.maximum(g_s, g_f))
        alike = 1 - np.abs(a_s - a_f) / (np.pi / 2)
        q = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + np.exp(-22 * (alike - 0.8)))
        top, bottom = top + (q * g_s).sum(), bottom + g_s.sum()
    return top / bottom


@pytest.mark.parametrize("shape", [(7, 9), (120, 400)])  # of one band, of several
def test_qabf(shape):
    images = np.random.default_rng(0).integers(0, 4, (3, *shape)) * 60  # ties and Gx = 0 occur
    assert qabf(*images) == pytest.approx(qabf_by_the_letter(*images), rel=1e-12)


def qcv_by_the_letter(*images):
    """With both signed frequencies, and tiles one by one."""
    ir, vi, f = (np.floor(255 * (x - x.min()) / (x.max() - x.min()) + 0.5) for x in images)
    height, width = f.shape
    p, q = (np.fft.fftfreq(n, 1 / n) for n in (height, width))
    r = np.hypot(p[:, None], q) / 4
    theta = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))
    top = bottom = 0
    for source in (ir, vi):
        squares = np.fft.ifft2(np.fft.fft2(source - f) * theta).real ** 2
        strength = np.hypot(*sobel(source)) ** 5
        for at in np.ndindex(-(-height // 16), -(-width // 16)):
            tile = tuple(slice(16 * k, 16 * k + 16) for k in at)
            top += strength[tile].sum() * squares[tile].sum() / 256
            bottom += strength[tile].sum()
    return top / bottom


@pytest.mark.parametrize("shape", [(16, 16), (17, 20), (33, 15), (121, 400)])
def test_qcv(shape):
    images = np.random.default_rng(shape[0]).integers(20, 200, (3, *shape))
    assert qcv(*images) == pytest.approx(qcv_by_the_letter(*images), rel=1e-10)


def test_ssim_is_scikit_images(triple):
    ir, vi, fused = triple
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = sum(structural_similarity(x, fused, data_range=255, **wang) for x in (ir, vi))
    assert ssim(ir, vi, fused) == pytest.approx(expected, rel=1e-11)


def test_ag_by_hand(triple):
    ramp = np.tile(np.arange(0, 60, 10), (4, 1))  # 4 × 6, slope 10 to the right everywhere
    assert ag(ramp) == pytest.approx(4 * 6 * math.sqrt(100 / 2) / (3 * 5), rel=1e-14)
    # one-sided differences: dx = 3 above, 1 below; dy = 6 left, 4 right
    expected = sum(math.sqrt((x * x + y * y) / 2) for x in (3, 1) for y in (6, 4))
    assert ag([[0, 3], [6, 7]]) == pytest.approx(expected, rel=1e-14)
    slopes = np.hypot(*np.gradient(triple[2].astype(float))) / math.sqrt(2)
    assert ag(triple[2]) == pytest.approx(slopes.sum() / (212 * 306), rel=1e-12)


def test_vif_is_sewars_with_the_sources_as_references(triple):
    ir, vi, fused = triple
    assert vif(ir, ir, fused) == pytest.approx(vifp(ir, fused), rel=1e-9)
    assert abs(vifp(ir, fused) / vifp(fused, ir) - 1) > 1e-3  # so the order is seen
    assert vif(ir, vi, fused) == pytest.approx((vifp(ir, fused) + vifp(vi, fused)) / 2, rel=1e-9)


def test_viff_is_hans_definition_with_scipys_filters(triple):
    ir, vi, fused = (x.astype(float) for x in triple)
    ratios = []
    for scale, size in enumerate((17, 9, 5, 3)):
        window, half = (
            np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * (size / 5) ** 2)),
            size // 2,
        )
        window = np.outer(window, window) / window.sum() ** 2

        def local(x, window=window, half=half):
            return ndimage.correlate(x, window)[half : len(x) - half, half : x.shape[1] - half]

        if scale:
            ir, vi, fused = (local(x)[::2, ::2] for x in (ir, vi, fused))
        mean_f, v_f = local(fused), local(fused**2) - local(fused) ** 2
        gains, kept, whole = [], [], []
        for x in (ir, vi):
            v_x = local(x**2) - local(x) ** 2
            covariance = local(x * fused) - local(x) * mean_f
            g = covariance / (v_x + 1e-10)
            noise = np.where(g < 0, v_f, v_f - g * covariance)
            g = np.maximum(g, 0)
            gains.append(g)
            kept.append(np.log10(1 + g**2 * v_x / (np.maximum(noise, 1e-10) + 325.125)))
            whole.append(np.log10(1 + v_x / 325.125))
        take_ir = gains[0] < gains[1]
        kept, whole = np.where(take_ir, *kept), np.where(take_ir, *whole)
        ratios.append((kept + 1e-7).sum() / (whole + 1e-7).sum())
    expected = (ratios[0] + 0.15 * ratios[2] + ratios[3]) / 2.15
    assert viff(*triple) == pytest.approx(expected, rel=1e-9)


def test_scd_is_a_sum_of_scipys_correlations(triple):
    ir, vi, fused = (x.astype(float).ravel() for x in triple)
    expected = pearsonr(fused - vi, ir).statistic + pearsonr(fused - ir, vi).statistic
    assert scd(*triple) == pytest.approx(expected, rel=1e-12)
