"""Equations 6 to 8 against values worked out by hand."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from fusionlib.losses import LAMBDA, fusion_loss, gradient_loss, intensity_loss

TARGETS = ["signed", "magnitude", "elementwise"]


def image(rows):
    return torch.tensor(rows, dtype=torch.float64)[None, None]


def random_images(seed=0, size=(5, 6), count=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, 1, *size, generator=generator, dtype=torch.float64)


FLAT = image([[0.5] * 3] * 3)
RISING = image([[0.0, 0.5, 1.0]] * 3)  # horizontal Sobel derivative 2, 4, 2 in each row
FALLING = RISING.flip(-1)
DOWN = RISING.transpose(2, 3)


def test_intensity_is_distance_to_the_brighter_source():
    ir, y = image([[0.0, 1.0, 0.2]] * 3), image([[0.5, 0.25, 0.2]] * 3)
    assert intensity_loss(FLAT, ir, y).item() == pytest.approx((0 + 0.5 + 0.3) / 3)
    assert intensity_loss(FLAT, y, ir).item() == pytest.approx((0 + 0.5 + 0.3) / 3)


@pytest.mark.parametrize("target", ["signed", "magnitude"])
@pytest.mark.parametrize("edge", [RISING, FALLING, DOWN])
def test_a_lost_edge_costs_its_gradient(target, edge):
    assert gradient_loss(FLAT, edge, FLAT, target).item() == pytest.approx(8 / 3)
    assert gradient_loss(FLAT, FLAT, edge, target).item() == pytest.approx(8 / 3)
    assert gradient_loss(edge, FLAT, FLAT, target).item() == pytest.approx(8 / 3)  # an invented one


def test_the_larger_component_knows_no_falling_edge():
    """max(−2, 0) = 0: of the text's maximum, taken literally, falling edges are lost."""
    assert gradient_loss(FLAT, RISING, FLAT, "elementwise").item() == pytest.approx(8 / 3)
    assert gradient_loss(RISING, RISING, FLAT, "elementwise").item() == 0
    assert gradient_loss(FLAT, FALLING, FLAT, "elementwise").item() == 0
    assert gradient_loss(FALLING, FALLING, FLAT, "elementwise").item() == pytest.approx(8 / 3)
    # one component from each source, where `signed` takes both from one
    both = RISING + DOWN
    assert gradient_loss(both, RISING, DOWN, "elementwise").item() == pytest.approx(0)
    assert gradient_loss(both, RISING, DOWN, "signed").item() > 1


def test_a_reversed_edge_is_punished_only_with_its_sign():
    assert gradient_loss(FALLING, RISING, FLAT, "signed").item() == pytest.approx(16 / 3)
    assert gradient_loss(FALLING, RISING, FLAT, "magnitude").item() == 0
    assert gradient_loss(RISING, RISING, FLAT, "signed").item() == 0


def test_a_turned_edge_is_punished_only_with_its_sign():
    """Both components enter: the edge is missing across and invented along, 2 + 4 + 2 each."""
    assert gradient_loss(DOWN, RISING, FLAT, "signed").item() == pytest.approx(16 / 3)
    magnitude = 4 * 2 / 9  # |∇| is 2 4 2 by row or by column: four of nine pixels differ by 2
    assert gradient_loss(DOWN, RISING, FLAT, "magnitude").item() == pytest.approx(magnitude)


@pytest.mark.parametrize("target", ["signed", "magnitude"])
def test_the_stronger_source_is_the_target(target):
    weak = 0.5 * FALLING
    for ir, y in ((RISING, weak), (weak, RISING)):
        assert gradient_loss(RISING, ir, y, target).item() == 0
        assert gradient_loss(weak, ir, y, target).item() == pytest.approx(
            4 if target == "signed" else 4 / 3
        )


@pytest.mark.parametrize("target", ["signed", "magnitude"])
def test_the_stronger_source_is_chosen_pixel_by_pixel(target):
    """Infrared has an edge on the left, visible one on the right; both together cost nothing."""
    ir, y = torch.zeros(2, 1, 1, 5, 12, dtype=torch.float64)
    ir[..., :3], y[..., 9:] = 1, 1
    assert gradient_loss(ir + y, ir, y, target).item() == 0
    assert gradient_loss(ir, ir, y, target).item() > 0
    assert fusion_loss(ir + y, ir, y, target=target).loss.item() == 0  # it is the maximum, too


@pytest.mark.parametrize("target", TARGETS)
def test_gradient_term_equals_scipy(target):
    fused, ir, y = random_images()
    total = 0.0
    for f, i, v in zip(*(x[:, 0].numpy() for x in (fused, ir, y)), strict=True):
        g = {
            key: np.stack([ndimage.sobel(x, axis, mode="nearest") for axis in (1, 0)])
            for key, x in (("f", f), ("i", i), ("v", v))
        }
        if target == "signed":
            stronger = np.hypot(*g["i"]) > np.hypot(*g["v"])
            total += np.abs(g["f"] - np.where(stronger, g["i"], g["v"])).sum()
        elif target == "elementwise":
            total += np.abs(g["f"] - np.maximum(g["i"], g["v"])).sum()
        else:
            size = {key: np.abs(value).sum(axis=0) for key, value in g.items()}
            total += np.abs(size["f"] - np.maximum(size["i"], size["v"])).sum()
    assert gradient_loss(fused, ir, y, target).item() == pytest.approx(total / fused.numel())


@pytest.mark.parametrize("target", TARGETS)
def test_identical_images_cost_nothing(target):
    x = random_images(count=1)[0]
    assert [value.item() for value in fusion_loss(x, x, x, target=target)] == [0, 0, 0]


def test_sum_is_weighted_by_lambda():
    fused, ir, y = random_images()
    assert LAMBDA == 0.2
    loss, loss_int, loss_grad = fusion_loss(fused, ir, y)
    assert loss_int.item() == intensity_loss(fused, ir, y).item()
    assert loss_grad.item() == gradient_loss(fused, ir, y, "signed").item()
    assert loss.item() == pytest.approx(loss_grad.item() + 0.2 * loss_int.item())
    heavier = fusion_loss(fused, ir, y, weight=3.0, target="magnitude")
    assert heavier.loss_grad.item() == gradient_loss(fused, ir, y, "magnitude").item()
    assert heavier.loss.item() == pytest.approx(heavier.loss_grad.item() + 3 * loss_int.item())


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="'sign' is none of signed, magnitude, elementwise"):
        gradient_loss(FLAT, FLAT, FLAT, "sign")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("target", TARGETS)
def test_ranges(seed, target):
    fused, ir, y = random_images(seed).round() if seed % 2 else random_images(seed)
    loss, loss_int, loss_grad = fusion_loss(fused, ir, y, target=target)
    assert 0 < loss_int <= 1
    assert 0 < loss_grad <= 16  # a Sobel component of [0, 1] is within ±4
    assert loss > loss_grad


@pytest.mark.parametrize("target", TARGETS)
def test_derivatives(target):
    fused, ir, y = random_images()
    fused.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: tuple(fusion_loss(x, ir, y, target=target)), fused, eps=1e-7, atol=1e-5
    )


def test_descent_on_pixels_finds_the_maximum_image():
    """Without texture in conflict, minimising the loss gives the brighter source everywhere."""
    ir, y = torch.zeros(2, 1, 1, 5, 12, dtype=torch.float64)
    ir[..., :3], y[..., 9:] = 1, 1
    fused = torch.full_like(ir, 0.5).requires_grad_()
    optimizer = torch.optim.Adam([fused], lr=0.05)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.97**step
        optimizer.zero_grad()
        fusion_loss(fused, ir, y).loss.backward()
        optimizer.step()
    assert (fused - torch.maximum(ir, y)).abs().max() < 0.02
