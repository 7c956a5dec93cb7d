import cmath
import math

import numpy as np
import pytest

from fusionlib.metrics import qcv


def by_the_letter(ir, vi, fused):
    """The definition, with the Fourier sums written out."""
    ir, vi, fused = (
        np.floor(255 * (x - x.min()) / (x.max() - x.min()) + 0.5) for x in (ir, vi, fused)
    )
    height, width = fused.shape

    def transform(size, sign):
        index = [k - size // 2 for k in range(size)]  # signed frequencies
        return index, np.array(
            [[cmath.exp(sign * 2j * math.pi * p * r / size) for r in range(size)] for p in index]
        )

    rows, down = transform(height, -1)
    columns, across = transform(width, -1)
    theta = np.empty((height, width))
    for i, p in enumerate(rows):
        for j, q in enumerate(columns):
            r = math.sqrt(p * p + q * q) / 4
            theta[i, j] = 2.6 * (0.0192 + 0.144 * r) * math.exp(-((0.144 * r) ** 1.1))
    top = bottom = 0.0
    for source in (ir, vi):
        spectrum = down @ (source - fused) @ across.T * theta
        error = (down.conj().T @ spectrum @ across.conj()).real / (height * width)
        padded = np.pad(source, 1)
        for r in range(0, height, 16):
            for c in range(0, width, 16):
                saliency = squares = 0.0
                for y in range(r, min(r + 16, height)):
                    for x in range(c, min(c + 16, width)):
                        w = padded[y : y + 3, x : x + 3]
                        g_x = (w[:, 2] - w[:, 0]) @ [1, 2, 1]
                        g_y = (w[2] - w[0]) @ [1, 2, 1]
                        saliency += math.hypot(g_x, g_y) ** 5
                        squares += error[y, x] ** 2
                top, bottom = top + saliency * squares / 256, bottom + saliency
    return top / bottom


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 20), (33, 15)])
def test_small_images_sum_by_sum(height, width):
    rng = np.random.default_rng(height)
    ir, vi, fused = rng.integers(20, 200, (3, height, width))
    assert qcv(ir, vi, fused) == pytest.approx(by_the_letter(ir, vi, fused), rel=1e-10)


def test_nothing_is_visible_between_equal_images():
    image = np.random.default_rng(0).integers(0, 256, (40, 50))
    assert qcv(image, image, image) == 0


def test_only_the_shape_of_the_grey_scale_counts(triple):
    ir, vi, fused = (x.astype(int) // 4 for x in triple)
    assert qcv(ir, vi, 3 * fused + 7) == pytest.approx(qcv(ir, vi, fused), rel=1e-12)
