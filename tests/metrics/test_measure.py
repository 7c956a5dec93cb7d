import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from fusionlib import metrics
from fusionlib.errors import MetricError, TooSmallError
from fusionlib.metrics import METRICS, Sources, measure
from fusionlib.metrics.protocols import measure_by

FUNCTIONS = [metrics.qabf, metrics.qcv, metrics.ssim, metrics.vif, metrics.viff, metrics.scd]
GOOD = np.arange(50 * 50).reshape(50, 50) % 251
FLAT, BLACK = np.full((50, 50), 9), np.zeros((50, 50), np.uint8)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((50, 50, 3), np.uint8), r"shape \(50, 50, 3\)"),
        (np.zeros((0, 50)), "shape"),
        (GOOD / 255, "fractions"),
        (GOOD - 1.0, "outside"),
        (GOOD * 2, "outside"),
        (np.full((50, 50), np.nan), "not finite"),
        (GOOD.astype(complex), "complex"),
        (GOOD > 9, "bool"),
    ],
)
def test_what_is_not_8_bit_luma_of_one_shape_is_refused(bad, message):
    for function in FUNCTIONS:
        with pytest.raises(MetricError, match=f"fused: .*{message}"):
            function(GOOD, GOOD, bad)
        with pytest.raises(MetricError, match=f"ir: .*{message}"):
            function(bad, GOOD, fused=GOOD)
        with pytest.raises(MetricError, match=r"fused \(50, 49\)"):
            function(GOOD, GOOD, GOOD[:, :-1])
    with pytest.raises(MetricError, match=message):
        metrics.ag(bad)
    with pytest.raises(MetricError, match="ir"):
        Sources(GOOD[:-1], GOOD)


@pytest.mark.parametrize(("name", "side"), [("ag", 1), ("ssim", 10), ("vif", 40), ("viff", 40)])
def test_r05_below_its_window_a_metric_has_no_value_and_says_why(name, side):
    small, enough = GOOD[:side], GOOD[: side + 1]
    value, reason = measure(Sources(small, small[:, ::-1]), small, [name])[name]
    assert math.isnan(value) and f"50×{side}" in reason and f"{side + 1}×{side + 1}" in reason
    function = getattr(metrics, name)
    with pytest.raises(TooSmallError, match="too small"):
        function(*[small] * (1 if name == "ag" else 3))
    assert math.isfinite(measure(Sources(enough, enough[:, ::-1]), enough, [name])[name].value)


def test_equal_images_by_hand():
    found = measure(Sources(GOOD, GOOD), GOOD)
    assert found["ssim"].value == pytest.approx(2, rel=1e-10) and found["qcv"].value == 0
    assert found["vif"].value == pytest.approx(1, rel=1e-6) and "constant" in found["scd"].reason


def test_r15_constant_images_give_a_value_or_a_reason():
    found = measure(Sources(GOOD, GOOD[::-1]), FLAT)
    assert found["ag"] == (0, "") and found["vif"].value == pytest.approx(0, abs=1e-9)
    assert found["qcv"].reason == "the fused image is constant and cannot be stretched"
    found = measure(Sources(FLAT, GOOD), GOOD)
    assert "a source is constant" in found["scd"].reason and "a source" in found["vif"].reason
    found = measure(Sources(GOOD[::-1], GOOD), GOOD + 3)
    assert "differs from a source by a constant" in found["scd"].reason
    found = measure(Sources(BLACK, BLACK), BLACK)
    assert "both sources are black" in found["qabf"].reason
    assert "both sources are black" in found["qcv"].reason
    assert found["ssim"].value == 2
    for name, (value, reason) in found.items():
        assert math.isfinite(value) != bool(reason), name
        if name != "ag":  # where there is a reason here, the functions give NaN
            assert getattr(metrics, name)(BLACK, BLACK, BLACK) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_neither_sharing_nor_the_type_of_grey_levels_changes_anything(triple, kind):
    ir, vi, fused = (x.astype(kind) for x in triple)
    sources = Sources(ir, vi)
    measure(sources, vi)  # fills what is kept of the sources
    for name, (value, _) in measure(sources, fused).items():
        assert getattr(metrics, name)(*([triple[2]] if name == "ag" else triple)) == value
        least, most = METRICS[name].range
        assert least <= value <= most


def test_the_registry_is_the_papers_six_and_viff():
    assert metrics.PAPER == ("qabf", "qcv", "ssim", "ag", "vif", "scd")
    assert list(METRICS) == [*metrics.PAPER, "viff"]
    assert [m.title for m in METRICS.values() if m.direction == "lower"] == ["Q_CV ↓"]
    assert METRICS["vif"].title == "Q_VIF ↑" and METRICS["qabf"].latex == "Q_{AB/F}"
    with pytest.raises(MetricError, match=r"'psnr'.*qabf"):
        measure(Sources(GOOD, GOOD), GOOD, ["psnr"])
    with pytest.raises(MetricError, match=r"'theirs'.*vif_sum"):
        measure_by("theirs", Sources(GOOD, GOOD), GOOD)


def test_a_protocol_changes_what_it_says_and_nothing_else(triple):
    sources, fused = Sources(*triple[:2]), triple[2]
    ours = measure(sources, fused)
    assert measure_by("ours", sources, fused) == ours
    ir, vi, f = (x.astype(float) for x in triple)
    for protocol, metric, expected in (
        ("vif_sum", "vif", 2 * ours["vif"].value),
        ("ag_all_pixels", "ag", ours["ag"].value * 212 * 306 / (213 * 307)),
        (
            "ssim_uniform",
            "ssim",
            sum(structural_similarity(x, f, data_range=1) for x in (ir, vi)),
        ),
    ):
        theirs = measure_by(protocol, sources, fused)
        assert [name for name in METRICS if theirs[name] != ours[name]] == [metric]
        assert theirs[metric].value == pytest.approx(expected, rel=1e-12)
    narrow = f // 4 + 90
    low, high = narrow.min(), narrow.max()
    wide = np.rint((narrow - low) / (high - low) * 255)
    assert measure_by("stretched", sources, narrow) == measure(sources, wide)
    assert measure_by("stretched", Sources(GOOD, GOOD), FLAT) == measure(Sources(GOOD, GOOD), FLAT)
