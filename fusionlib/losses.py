"""The training loss, equations 6 to 8, on luma in [0, 1]."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fusionlib.network import sobel

LAMBDA = 0.2  # λ of equation 6, section 4.2

GradientTarget = Literal["signed", "magnitude", "elementwise"]


class Losses(NamedTuple):
    """ℓ_f and its two terms, each a scalar tensor."""

    loss: Tensor
    loss_int: Tensor
    loss_grad: Tensor


def fusion_loss(
    fused: Tensor,
    ir: Tensor,
    y: Tensor,
    *,
    weight: float = LAMBDA,
    target: GradientTarget = "signed",
) -> Losses:
    """Both terms and their sum; arguments as in `intensity_loss` and `gradient_loss`.

    Equation:
        (6) ℓ_f = ℓ_g + λ ℓ_i
    """
    loss_int = intensity_loss(fused, ir, y)
    loss_grad = gradient_loss(fused, ir, y, target)
    return Losses(loss_grad + weight * loss_int, loss_int, loss_grad)


def gradient_loss(
    fused: Tensor, ir: Tensor, y: Tensor, target: GradientTarget = "signed"
) -> Tensor:
    """Mean distance of the fused gradient to the larger of the two source gradients.

    Args:
        fused: fused luma, (B, 1, H, W), in [0, 1].
        ir: infrared, same shape and range.
        y: luma of the visible image, same shape and range.
        target: what the maximum in equation 7 is. ``"elementwise"`` is the text to the letter: the
            larger value of each signed component. ``"magnitude"`` takes ∇ as |G_x| + |G_y|, so
            that an edge may come out in either direction. ``"signed"``, which the shipped weights
            were trained with, is a departure: the whole gradient vector of whichever source is
            stronger at that pixel.

    Returns:
        Scalar ≥ 0; Sobel derivatives are not scaled, so a step of height 1 has gradient 4.

    Raises:
        ValueError: another target.

    Equation:
        (7) ℓ_g = 1/(HW) ‖∇I_f − max(∇I_i, ∇I_v)‖₁, with Y_v for I_v
    """
    (f_x, f_y), (i_x, i_y), (v_x, v_y) = map(sobel, (fused, ir, y))
    if target == "magnitude":
        strongest = torch.maximum(i_x.abs() + i_y.abs(), v_x.abs() + v_y.abs())
        return (f_x.abs() + f_y.abs() - strongest).abs().mean()
    if target == "elementwise":
        t_x, t_y = torch.maximum(i_x, v_x), torch.maximum(i_y, v_y)
    elif target == "signed":
        ir_is_stronger = i_x**2 + i_y**2 > v_x**2 + v_y**2
        t_x, t_y = torch.where(ir_is_stronger, i_x, v_x), torch.where(ir_is_stronger, i_y, v_y)
    else:
        raise ValueError(f"target {target!r} is none of signed, magnitude, elementwise")
    return ((f_x - t_x).abs() + (f_y - t_y).abs()).mean()


def intensity_loss(fused: Tensor, ir: Tensor, y: Tensor) -> Tensor:
    """Mean distance of the fused luma to the brighter of the two sources.

    Args:
        fused: fused luma, (B, 1, H, W), in [0, 1].
        ir: infrared, same shape and range.
        y: luma of the visible image, same shape and range.

    Returns:
        Scalar, in [0, 1].

    Equation:
        (8) ℓ_i = 1/(HW) ‖I_f − max(I_i, I_v)‖₁, with Y_v for I_v
    """
    return (fused - torch.maximum(ir, y)).abs().mean()
