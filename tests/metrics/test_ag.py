import math

import numpy as np
import pytest

from fusionlib.metrics import ag


def test_a_ramp_by_hand():
    ramp = np.tile(np.arange(0, 60, 10), (4, 1))  # 4 × 6, slope 10 to the right everywhere
    assert ag(ramp) == pytest.approx(4 * 6 * math.sqrt(100 / 2) / (3 * 5), rel=1e-14)


def test_two_by_two_by_hand():
    # one-sided differences: dx = 3 above, 1 below; dy = 6 left, 4 right
    expected = sum(math.sqrt((x * x + y * y) / 2) for x in (3, 1) for y in (6, 4))
    assert ag([[0, 3], [6, 7]]) == pytest.approx(expected, rel=1e-14)


def test_a_constant_has_no_slope():
    assert ag(np.full((5, 5), 77)) == 0
