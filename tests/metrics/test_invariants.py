"""What holds for any images, on those that hypothesis draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fusionlib.metrics import METRICS, Sources, measure


@st.composite
def triples(draw):
    """Images with some texture, between 1 and 250, of sides that 16 divides and others."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.sampled_from([(48, 64), (41, 60), (57, 43)]))
    images = []
    for _ in range(3):
        noise = ndimage.gaussian_filter(rng.normal(size=size), draw(st.sampled_from([0, 1, 3])))
        images.append(np.rint((125 + 40 * noise / noise.std()).clip(1, 250)).astype(int))
    return images


def values(*images):
    return {name: value for name, (value, _) in measure(Sources(*images[:2]), images[2]).items()}


@settings(max_examples=12, deadline=None, derandomize=True)
@given(triples(), st.integers(1, 5))
def test_ranges_and_what_does_not_count(images, step):
    ir, vi, fused = images
    found = values(*images)
    assert all(m.range[0] <= found[name] <= m.range[1] for name, m in METRICS.items())

    def same(names, *others, rel=1e-9):
        other = values(*others)
        for name in names:
            assert other[name] == pytest.approx(found[name], rel=rel), name

    same(("qabf", "qcv", "ssim", "ag", "vif", "scd"), vi, ir, fused)
    same(("ag", "vif", "scd", "qcv"), *(x + step for x in images), rel=1e-8)  # brighter
    whole_tiles = ("qcv",) if ir.shape == (48, 64) else ()
    same(("ssim", "ag", "scd", *whole_tiles), *(np.rot90(x) for x in images))
    alike = values(ir, ir, ir)
    assert alike["ssim"] == pytest.approx(2, rel=1e-10) and alike["qcv"] == 0
    assert alike["vif"] == pytest.approx(1, rel=1e-6) and np.isnan(alike["scd"])
