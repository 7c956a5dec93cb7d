"""Equations 6 to 8 against values worked out by hand, and against scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fusionlib.losses import LAMBDA, fusion_loss, gradient_loss, intensity_loss

TARGETS = ["signed", "magnitude", "elementwise"]


def image(rows):
    return torch.tensor(rows, dtype=torch.float64)[None, None]


FLAT = image([[0.5] * 3] * 3)
RISING = image([[0.0, 0.5, 1.0]] * 3)  # horizontal Sobel derivative 2, 4, 2 in each row
FALLING = RISING.flip(-1)
DOWN = RISING.transpose(2, 3)
BOTH = RISING + DOWN


def test_intensity_is_distance_to_the_brighter_source():
    ir, y = image([[0.0, 1.0, 0.2]] * 3), image([[0.5, 0.25, 0.2]] * 3)
    assert intensity_loss(FLAT, ir, y).item() == pytest.approx((0 + 0.5 + 0.3) / 3)
    assert intensity_loss(FLAT, y, ir).item() == pytest.approx((0 + 0.5 + 0.3) / 3)


@pytest.mark.parametrize(
    ("fused", "ir", "y", "signed", "magnitude", "elementwise"),
    [
        # a lost edge, and an invented one, cost their gradient
        (FLAT, RISING, FLAT, 8 / 3, 8 / 3, 8 / 3),
        (FLAT, FLAT, DOWN, 8 / 3, 8 / 3, 8 / 3),
        (RISING, FLAT, FLAT, 8 / 3, 8 / 3, 8 / 3),
        (RISING, RISING, FLAT, 0, 0, 0),
        # max(−2, 0) = 0: of the text's maximum, taken literally, falling edges are lost
        (FLAT, FALLING, FLAT, 8 / 3, 8 / 3, 0),
        (FALLING, FALLING, FLAT, 0, 0, 8 / 3),
        # a reversed edge is punished only with its sign
        (FALLING, RISING, FLAT, 16 / 3, 0, 16 / 3),
        # a turned one is missing across and invented along, 2 + 4 + 2 each; of the magnitudes,
        # 2 4 2 by row or by column, four of nine pixels differ by 2
        (DOWN, RISING, FLAT, 16 / 3, 4 * 2 / 9, 16 / 3),
        # the stronger source is the target
        (RISING, 0.5 * FALLING, RISING, 0, 0, 0),
        (0.5 * FALLING, RISING, 0.5 * FALLING, 4, 4 / 3, 4),
        # one component from each source, where `signed` takes both from one
        (BOTH, RISING, DOWN, 20 / 9, 20 / 9, 0),
    ],
)
def test_gradient_term_by_hand(fused, ir, y, signed, magnitude, elementwise):
    found = [gradient_loss(fused, ir, y, target).item() for target in TARGETS]
    assert found == pytest.approx([signed, magnitude, elementwise])


@pytest.mark.parametrize("target", TARGETS)
def test_terms_and_their_sum_equal_scipy(target):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, 1, 5, 6, generator=generator, dtype=torch.float64)
    total = 0.0
    for f, i, v in zip(*images[:, :, 0].numpy(), strict=True):
        g_f, g_i, g_v = (
            np.stack([ndimage.sobel(x, axis, mode="nearest") for axis in (1, 0)]) for x in (f, i, v)
        )
        if target == "signed":
            stronger = np.hypot(*g_i) > np.hypot(*g_v)
            total += np.abs(g_f - np.where(stronger, g_i, g_v)).sum()
        elif target == "elementwise":
            total += np.abs(g_f - np.maximum(g_i, g_v)).sum()
        else:
            size_f, size_i, size_v = (np.abs(g).sum(axis=0) for g in (g_f, g_i, g_v))
            total += np.abs(size_f - np.maximum(size_i, size_v)).sum()
    fused, ir, y = images
    loss, loss_int, loss_grad = fusion_loss(fused, ir, y, target=target)
    assert loss_grad.item() == pytest.approx(total / fused.numel())
    assert loss_int.item() == intensity_loss(fused, ir, y).item()
    assert loss.item() == pytest.approx(loss_grad.item() + 0.2 * loss_int.item())
    heavier = fusion_loss(fused, ir, y, weight=3.0, target=target)
    assert heavier.loss.item() == pytest.approx(loss_grad.item() + 3 * loss_int.item())


def test_defaults_and_what_is_refused():
    assert LAMBDA == 0.2
    assert fusion_loss(FALLING, RISING, FLAT).loss_grad.item() == pytest.approx(16 / 3)  # signed
    with pytest.raises(ValueError, match="'sign' is none of signed, magnitude, elementwise"):
        gradient_loss(FLAT, FLAT, FLAT, "sign")
