"""What is decided before a training starts: its settings, presets and learning rates."""

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fusionlib.losses import LAMBDA, GradientTarget
from fusionlib.network import NetworkConfig

# what decides the numbers of a training; an edit elsewhere does not stop a resume
DECISIVE = ("network.py", "losses.py", "crops.py", "encoder.py", "recipe.py", "training.py")


@dataclass(frozen=True)
class TrainConfig:
    """The recipe.

    Attributes:
        network: what is trained; its ``embed`` is taken from the encoder.
        epochs: passes over the training pairs; ignored when ``steps`` is given.
        steps: number of optimizer steps.
        batch: crops a step.
        crop: side of a crop, pixels.
        lr: learning rate at the start and at the end.
        lr_peak: learning rate after warm-up.
        warmup: share of the steps in which the rate rises (the paper: 20 of 100 epochs).
        clip_norm: gradients are scaled down to this norm; None leaves them as they are.
        average: decay of a moving average of the weights, which is what is kept; 0 for none.
        precision: of the forward pass, ``fp32`` or ``bf16``; weights, losses and optimizer are
            always fp32. On a CPU bf16 pays with AVX-512 BF16 or AMX only.
        freeze_norm: share of the steps after which BatchNorm uses its running statistics, as it
            does in use, and no longer those of the batch, which differ much between few crops.
        loss_weight: λ of equation 6.
        target: maximum in equation 7, see `fusionlib.losses.gradient_loss`.
        validate_every: steps between validations and checkpoints.
        seed: of weights, crops and augmentation.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    epochs: int = 100
    steps: int | None = None
    batch: int = 16
    crop: int = 256
    lr: float = 1e-4
    lr_peak: float = 1e-3
    warmup: float = 0.2
    clip_norm: float | None = 4.0
    average: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    freeze_norm: float = 0.2
    loss_weight: float = LAMBDA
    target: GradientTarget = "signed"
    validate_every: int = 100
    seed: int = 0

    def total_steps(self, pairs: int) -> int:
        """Steps of a training on so many pairs."""
        if self.steps is not None:
            return self.steps
        return self.epochs * math.ceil(pairs / self.batch)


PRESETS = {
    "quick": TrainConfig(steps=16, batch=2, crop=96, validate_every=8),
    "cpu": TrainConfig(
        steps=1500, batch=4, crop=128, average=0.99, precision="bf16", validate_every=250
    ),
    # the shipped recipe: the paper's with four aids and the signed target
    "shipped": TrainConfig(average=0.995, precision="bf16", validate_every=500),
    # the text's own recipe, nothing added but bf16
    "paper": TrainConfig(
        clip_norm=None,
        precision="bf16",
        freeze_norm=1.0,
        target="magnitude",
        validate_every=500,
    ),
}


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Rate of a step: linear rise to ``lr_peak``, then half a cosine down to ``lr``."""
    rise = max(1, round(config.warmup * total))
    if step < rise:
        return config.lr + (config.lr_peak - config.lr) * step / rise
    progress = (step - rise) / max(1, total - 1 - rise)
    return config.lr + (config.lr_peak - config.lr) * (1 + math.cos(math.pi * progress)) / 2


def code_fingerprint() -> str:
    """sha256 of the sources that decide the numbers of a training."""
    here = Path(__file__).resolve()
    return hashlib.sha256(b"".join(here.with_name(n).read_bytes() for n in DECISIVE)).hexdigest()
