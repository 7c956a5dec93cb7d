import math

import pytest
from scipy.stats import pearsonr

from fusionlib.metrics import scd


def test_scipys_correlation_agrees(triple):
    ir, vi, fused = (x.astype(float).ravel() for x in triple)
    expected = pearsonr(fused - vi, ir).statistic + pearsonr(fused - ir, vi).statistic
    assert scd(*triple) == pytest.approx(expected, rel=1e-12)


def test_three_pixels_by_hand():
    # F − V = (1, 2, 3) goes with I = (1, 2, 3): r = 1; F − I = (0, 0, 3) with V = (0, 0, 3): r = 1
    assert scd([[1, 2, 3]], [[0, 0, 3]], [[1, 2, 6]]) == pytest.approx(2, rel=1e-12)


def test_a_copy_of_a_source_is_undefined(triple):
    ir, vi, _ = triple
    assert math.isnan(scd(ir, vi, vi))
    assert math.isnan(scd(ir, vi, ir))
    assert math.isnan(scd(ir, vi // 2, vi // 2 + 3))  # differs by a constant
