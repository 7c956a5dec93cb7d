import math

import numpy as np
import pytest

from fusionlib import metrics
from fusionlib.errors import MetricError, TooSmallError
from fusionlib.metrics import METRICS, Sources, measure

FUNCTIONS = [metrics.qabf, metrics.qcv, metrics.ssim, metrics.vif, metrics.viff, metrics.scd]
GOOD = np.arange(50 * 50).reshape(50, 50) % 251
FLAT = np.full((50, 50), 9)


@pytest.mark.parametrize("function", FUNCTIONS)
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
def test_what_is_not_8_bit_luma_is_refused(function, bad, message):
    with pytest.raises(MetricError, match=f"fused: .*{message}"):
        function(GOOD, GOOD, bad)
    with pytest.raises(MetricError, match=f"ir: .*{message}"):
        function(bad, GOOD, fused=GOOD)
    with pytest.raises(MetricError, match=message):
        metrics.ag(bad)


@pytest.mark.parametrize(
    "function", [*FUNCTIONS, lambda *images: measure(Sources(*images[:2]), *images[2:])]
)
def test_shapes_must_agree(function):
    with pytest.raises(MetricError, match=r"fused \(50, 49\)"):
        function(GOOD, GOOD, GOOD[:, :-1])
    with pytest.raises(MetricError, match="ir"):
        function(GOOD[:-1], GOOD, GOOD)


def test_an_unknown_metric_is_named():
    with pytest.raises(MetricError, match=r"'psnr'.*qabf"):
        measure(Sources(GOOD, GOOD), GOOD, ["psnr"])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int64, np.float32, np.float64])
def test_any_type_that_holds_grey_levels_gives_the_same(triple, kind):
    assert metrics.qabf(*(x.astype(kind) for x in triple)) == metrics.qabf(*triple)


@pytest.mark.parametrize(("name", "side"), [("ag", 1), ("ssim", 10), ("vif", 40), ("viff", 40)])
def test_r05_below_its_window_a_metric_has_no_value_and_says_why(name, side):
    small, enough = GOOD[:side], GOOD[: side + 1]
    value, reason = measure(Sources(small, small[:, ::-1]), small, [name])[name]
    assert math.isnan(value) and f"50×{side}" in reason and f"{side + 1}×{side + 1}" in reason
    function = getattr(metrics, name)
    with pytest.raises(TooSmallError, match="too small"):
        function(*[small] * (1 if name == "ag" else 3))
    assert math.isfinite(measure(Sources(enough, enough[:, ::-1]), enough, [name])[name].value)


def test_r15_constant_images_give_a_value_or_a_reason():
    found = measure(Sources(GOOD, GOOD[::-1]), FLAT)
    assert found["ag"] == (0, "") and found["vif"].value == pytest.approx(0, abs=1e-9)
    assert found["qcv"].reason == "the fused image is constant and cannot be stretched"
    found = measure(Sources(FLAT, GOOD), GOOD)
    assert "a source is constant" in found["scd"].reason and "a source" in found["vif"].reason
    black = np.zeros((50, 50), np.uint8)
    found = measure(Sources(black, black), black)
    assert "both sources are black" in found["qabf"].reason
    assert "both sources are black" in found["qcv"].reason
    assert found["ssim"].value == 2
    for name, (value, reason) in found.items():
        assert math.isfinite(value) != bool(reason), name
        if name != "ag":  # where there is a reason here, the functions give NaN
            assert getattr(metrics, name)(black, black, black) == pytest.approx(value, nan_ok=True)


def test_sharing_changes_nothing(triple):
    """Neither that of sources among fused images, nor that of one comparison among metrics."""
    ir, vi, fused = triple
    sources = Sources(ir, vi)
    measure(sources, vi)  # fills what is kept
    for name, (value, _) in measure(sources, fused).items():
        assert getattr(metrics, name)(*([fused] if name == "ag" else triple)) == value


def test_the_registry_is_the_papers_six_and_viff():
    assert metrics.PAPER == ("qabf", "qcv", "ssim", "ag", "vif", "scd")
    assert list(METRICS) == [*metrics.PAPER, "viff"]
    assert [m.title for m in METRICS.values() if m.direction == "lower"] == ["Q_CV ↓"]
    assert METRICS["vif"].title == "Q_VIF ↑" and METRICS["qabf"].latex == "Q_{AB/F}"
