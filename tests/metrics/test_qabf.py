import math

import numpy as np
import pytest

from fusionlib.metrics import qabf


def by_the_letter(ir, vi, fused):
    """The definition, pixel by pixel, without numpy."""

    def edges(image):
        height, width = len(image), len(image[0])

        def level(r, c):
            return image[r][c] if 0 <= r < height and 0 <= c < width else 0

        strength, angle = {}, {}
        for r in range(height):
            for c in range(width):
                x = sum(w * (level(r + d, c + 1) - level(r + d, c - 1))
                        for d, w in ((-1, 1), (0, 2), (1, 1)))  # fmt: skip
                y = sum(w * (level(r + 1, c + d) - level(r - 1, c + d))
                        for d, w in ((-1, 1), (0, 2), (1, 1)))  # fmt: skip
                strength[r, c] = math.sqrt(x * x + y * y)
                angle[r, c] = math.atan(-y / x) if x else math.pi / 2
        return strength, angle

    g_f, a_f = edges(fused)
    top = bottom = 0.0
    for g_s, a_s in (edges(ir), edges(vi)):
        for at in g_f:
            weak, strong = sorted((g_s[at], g_f[at]))
            ratio = strong if weak == strong else weak / strong
            alike = 1 - abs(a_s[at] - a_f[at]) / (math.pi / 2)
            q = 0.9994 / (1 + math.exp(-15 * (ratio - 0.5)))
            q *= 0.9879 / (1 + math.exp(-22 * (alike - 0.8)))
            top, bottom = top + q * g_s[at], bottom + g_s[at]
    return top / bottom


@pytest.mark.parametrize("seed", range(5))
def test_small_images_pixel_by_pixel(seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 4, (3, 7, 9)) * 60  # few levels: ties and Gx = 0 occur
    expected = by_the_letter(*(image.tolist() for image in images))
    assert qabf(*images) == pytest.approx(expected, rel=1e-12)


def test_equal_images_reach_the_product_of_both_sigmoids():
    flat = np.full((6, 6), 100)  # edges only at the zero border, all of them kept whole
    strength, orientation = 0.9994, 0.9879 / (1 + math.exp(-22 * 0.2))
    assert qabf(flat, flat, flat) == pytest.approx(strength * orientation, rel=1e-12)
