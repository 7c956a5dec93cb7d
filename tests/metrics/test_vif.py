import numpy as np
import pytest
from sewar.full_ref import vifp

from fusionlib.metrics import vif, viff
from fusionlib.metrics.filters import gaussian


def test_sewar_agrees(triple):
    ir, vi, fused = triple
    expected = (vifp(ir, fused) + vifp(vi, fused)) / 2
    assert vif(ir, vi, fused) == pytest.approx(expected, rel=1e-9)


def test_the_source_is_the_reference(triple):
    ir, _, fused = triple
    assert vif(ir, ir, fused) == pytest.approx(vifp(ir, fused), rel=1e-9)
    assert abs(vifp(ir, fused) / vifp(fused, ir) - 1) > 1e-3  # so the order is seen


def test_what_is_copied_from_one_source_counts_half(triple):
    ir, vi, _ = triple
    assert vif(ir, vi, ir) == pytest.approx((1 + vifp(vi, ir)) / 2, rel=1e-7)


def test_viff_is_a_ratio_of_terms_chosen_by_gain(triple):
    """Han's definition with scipy's filters, scale by scale."""
    from scipy import ndimage

    ir, vi, fused = (x.astype(float) for x in triple)
    ratios = []
    for scale, size in enumerate((17, 9, 5, 3)):
        window, half = np.outer(*[gaussian(size, size / 5)] * 2), size // 2

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
