import numpy as np
import pytest
from skimage.metrics import structural_similarity

from fusionlib.errors import MetricError
from fusionlib.metrics import METRICS, Sources, measure
from fusionlib.metrics.protocols import PROTOCOLS, measure_by, stretch


@pytest.fixture
def both(triple):
    """Values by a protocol, and ours."""
    ir, vi, fused = triple
    ours = measure(Sources(ir, vi), fused)
    return lambda protocol: (measure_by(protocol, Sources(ir, vi), fused), ours)


def changed(theirs, ours):
    return [name for name in METRICS if theirs[name] != ours[name]]


def test_ours_is_the_definition(both):
    theirs, ours = both("ours")
    assert changed(theirs, ours) == []


def test_vif_as_a_sum_is_twice_the_mean(both):
    theirs, ours = both("vif_sum")
    assert changed(theirs, ours) == ["vif"]
    assert theirs["vif"].value == 2 * ours["vif"].value


def test_ag_over_all_pixels_is_lower(both):
    theirs, ours = both("ag_all_pixels")
    assert changed(theirs, ours) == ["ag"]
    assert theirs["ag"].value == pytest.approx(ours["ag"].value * 60 * 82 / (61 * 83), rel=1e-14)


def test_ssim_in_a_uniform_window_of_range_1(both, triple):
    theirs, ours = both("ssim_uniform")
    ir, vi, fused = (x.astype(float) for x in triple)
    expected = sum(structural_similarity(x, fused, data_range=1) for x in (ir, vi))
    assert changed(theirs, ours) == ["ssim"] and theirs["ssim"].value == pytest.approx(expected)


def test_stretching_reaches_black_and_white(triple):
    ir, vi, fused = triple
    narrow = (fused // 4 + 90).astype(np.uint8)
    wide = stretch(narrow)
    assert (wide.min(), wide.max()) == (0, 255)
    theirs = measure_by("stretched", Sources(ir, vi), narrow)
    assert theirs == measure(Sources(ir, vi), wide)
    assert theirs["ag"].value > 3 * measure(Sources(ir, vi), narrow)["ag"].value
    flat = np.full((4, 4), 7, np.uint8)
    assert (stretch(flat) == 7).all()


def test_unknown_protocol_is_named(triple):
    with pytest.raises(MetricError, match=r"'theirs'.*vif_sum"):
        measure_by("theirs", Sources(*triple[:2]), triple[2])


def test_each_says_what_it_does():
    assert all(p.name == key and len(p.description) > 20 for key, p in PROTOCOLS.items())
