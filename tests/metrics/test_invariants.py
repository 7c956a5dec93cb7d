"""What holds for any images, on those that hypothesis draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fusionlib import metrics
from fusionlib.metrics import METRICS, Sources, measure

SIDES = st.integers(41, 60)
QUICK = settings(max_examples=15, deadline=None, derandomize=True)


@st.composite
def triples(draw, height=SIDES, width=SIDES):
    """Images with some texture, between 1 and 250."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(height), draw(width)
    images = []
    for _ in range(3):
        noise = ndimage.gaussian_filter(rng.normal(size=size), draw(st.sampled_from([0, 1, 3])))
        images.append(np.rint((125 + 40 * noise / noise.std()).clip(1, 250)).astype(int))
    return images


def values(ir, vi, fused, names=tuple(METRICS)):
    return {name: value for name, (value, _) in measure(Sources(ir, vi), fused, names).items()}


@QUICK
@given(triples(), st.integers(1, 5))
def test_ranges_and_what_does_not_count(images, step):
    found = values(*images)
    for name, value in found.items():
        least, most = METRICS[name].range
        assert least <= value <= most
    ir, vi, fused = images
    swapped = values(vi, ir, fused, metrics.PAPER)
    assert swapped == pytest.approx({k: found[k] for k in swapped}, rel=1e-10)
    brighter = values(*(x + step for x in images), ("ag", "vif", "scd", "qcv"))
    assert brighter == pytest.approx({k: found[k] for k in brighter}, rel=1e-8)


@QUICK
@given(triples(st.just(48), st.just(64)))
def test_a_quarter_turn_does_not_count(images):
    names = ("ssim", "ag", "scd", "qcv")
    turned = values(*(np.rot90(x) for x in images), names)
    assert turned == pytest.approx(values(*images, names), rel=1e-9)


@QUICK
@given(triples())
def test_copies_of_a_source(images):
    ir, vi, _ = images
    found = values(ir, vi, ir)
    assert found["ssim"] == pytest.approx(1 + metrics.ssim(vi, vi, ir) / 2, rel=1e-10)
    assert found["vif"] == pytest.approx((1 + metrics.vif(vi, vi, ir)) / 2, rel=1e-6)
    assert np.isnan(found["scd"])
    found = values(ir, ir, ir)
    assert found["ssim"] == pytest.approx(2, rel=1e-10)
    assert found["vif"] == pytest.approx(1, rel=1e-6)
    assert found["qcv"] == 0
