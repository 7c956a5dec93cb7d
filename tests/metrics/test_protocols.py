import numpy as np
import pytest
from skimage.metrics import structural_similarity

from fusionlib.errors import MetricError
from fusionlib.metrics import METRICS, Sources, measure
from fusionlib.metrics.protocols import measure_by, stretch


@pytest.mark.parametrize(
    ("protocol", "metric"),
    [("ours", None), ("vif_sum", "vif"), ("ag_all_pixels", "ag"), ("ssim_uniform", "ssim")],
)
def test_a_protocol_changes_one_metric(triple, protocol, metric):
    sources, fused = Sources(*triple[:2]), triple[2]
    ours, theirs = measure(sources, fused), measure_by(protocol, sources, fused)
    assert [name for name in METRICS if theirs[name] != ours[name]] == ([metric] if metric else [])
    ir, vi, f = (x.astype(float) for x in triple)
    expected = {
        "vif": 2 * ours["vif"].value,
        "ag": ours["ag"].value * 212 * 306 / (213 * 307),
        "ssim": sum(structural_similarity(x, f, data_range=1) for x in (ir, vi)),
    }
    if metric:
        assert theirs[metric].value == pytest.approx(expected[metric], rel=1e-12)


def test_stretching_reaches_black_and_white(triple):
    sources, narrow = Sources(*triple[:2]), (triple[2] // 4 + 90).astype(np.uint8)
    wide = stretch(narrow)
    assert (wide.min(), wide.max()) == (0, 255)
    theirs = measure_by("stretched", sources, narrow)
    assert theirs == measure(sources, wide)
    assert theirs["ag"].value > 3 * measure(sources, narrow)["ag"].value
    assert (stretch(np.full((4, 4), 7, np.uint8)) == 7).all()


def test_unknown_protocols_are_named(triple):
    with pytest.raises(MetricError, match=r"'theirs'.*vif_sum"):
        measure_by("theirs", Sources(*triple[:2]), triple[2])
