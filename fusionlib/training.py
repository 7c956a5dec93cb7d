"""The training recipe of the paper, section 4.2; it can stop at any step and go on exactly.

Everything random in step k (which pairs, which crops, which flips) is drawn from a generator that
is seeded with (seed, k) alone, so the state of a training is its weights, its optimizer and k.
"""

import copy
import csv
import dataclasses
import io
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib.clip import ImageEncoder
from fusionlib.datasets import Pair, load_pair
from fusionlib.errors import TrainingError, WeightsError
from fusionlib.files import write_atomically
from fusionlib.losses import LAMBDA, GradientTarget, Losses, fusion_loss
from fusionlib.network import LUMA, FusionNet, NetworkConfig
from fusionlib.weights import Weights, save_weights

VALIDATION_CROPS = 2  # of each validation pair
LOG_COLUMNS = ("step", "lr", "loss", "loss_int", "loss_grad", "val_loss", "val_loss_average")


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
        clip_norm: gradients are scaled down to this norm.
        average: decay of a moving average of the weights, which is what is kept; 0 for none.
        precision: of the forward pass, ``fp32`` or ``bf16``; weights, losses and optimizer are
            always fp32. On a CPU bf16 pays with AVX-512 BF16 or AMX only.
        freeze_norm: share of the steps after which BatchNorm uses its running statistics, as it
            does in use, and no longer those of the batch, which differ much between few crops.
        loss_weight: λ of equation 8.
        target: reading of equation 7, see `fusionlib.losses.gradient_loss`.
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
    clip_norm: float = 1.0
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
    "quick": TrainConfig(steps=24, batch=2, crop=96, validate_every=8),
    "cpu": TrainConfig(
        steps=1500, batch=4, crop=128, average=0.99, precision="bf16", validate_every=250
    ),
    "paper": TrainConfig(average=0.999, precision="bf16", validate_every=500),
}


class Images:
    """Training pairs in memory as 8-bit grey levels.

    Args:
        pairs: what to read.
        crop: least side an image must have.

    Raises:
        TrainingError: no pairs, or an image smaller than a crop.
    """

    def __init__(self, pairs: Sequence[Pair], crop: int):
        if not pairs:
            raise TrainingError(
                "there are no training pairs; see `python -m fusionlib data status`"
            )
        self.pairs = list(pairs)
        self.ir: list[np.ndarray] = []  # (H, W) uint8
        self.vi: list[np.ndarray] = []  # (H, W, 3) uint8
        for pair in tqdm(pairs, desc="reading", unit="pair", leave=False):
            ir, vi = load_pair(pair)
            if min(ir.shape) < crop:
                raise TrainingError(
                    f"{pair.ir}: {ir.shape[1]}×{ir.shape[0]} is smaller than a crop of {crop}"
                )
            self.ir.append(np.rint(ir * 255).astype(np.uint8))
            self.vi.append(np.rint(vi * 255).astype(np.uint8))

    def __len__(self) -> int:
        return len(self.pairs)

    def crops(
        self, indices: Sequence[int], crop: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Random crops, flipped and turned by multiples of 90°, the same way in both images.

        Returns:
            Infrared (B, 1, crop, crop) and visible (B, 3, crop, crop), float32 in [0, 1].
        """
        out = []
        for index in indices:
            height, width = self.ir[index].shape
            top, left = rng.integers(height - crop + 1), rng.integers(width - crop + 1)
            window = np.s_[top : top + crop, left : left + crop]
            both = np.dstack([self.ir[index][window], self.vi[index][window]])
            both = np.rot90(both, rng.integers(4))
            out.append(both[:, ::-1] if rng.integers(2) else both)
        batch = torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float() / 255  # (B, 4, c, c)
        return batch[:, :1].contiguous(), batch[:, 1:].contiguous()


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Rate of a step: linear rise to ``lr_peak``, then half a cosine down to ``lr``."""
    rise = max(1, round(config.warmup * total))
    if step < rise:
        return config.lr + (config.lr_peak - config.lr) * step / rise
    progress = (step - rise) / max(1, total - 1 - rise)
    return config.lr + (config.lr_peak - config.lr) * (1 + math.cos(math.pi * progress)) / 2


def batch_indices(step: int, pairs: int, config: TrainConfig) -> list[int]:
    """Which pairs a step sees: consecutive cuts from one permutation an epoch, without end."""
    indices = []
    for position in range(step * config.batch, (step + 1) * config.batch):
        epoch, place = divmod(position, pairs)
        order = np.random.default_rng([config.seed, 1, epoch]).permutation(pairs)
        indices.append(int(order[place]))
    return indices


def forward_loss(
    net: nn.Module, encoder: ImageEncoder, ir: Tensor, vi: Tensor, config: TrainConfig
) -> Losses:
    """Fuse crops in [0, 1] and compare with their sources, equations 6 to 8."""
    with torch.autocast(ir.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        features = encoder(torch.cat([ir.expand(-1, 3, -1, -1), vi]))  # both images in one batch
        c_ir, c_vi = features.chunk(2)
        fused = net(2 * ir - 1, 2 * vi - 1, c_ir, c_vi)
    fused = (fused.float() + 1) / 2
    y = (vi * LUMA.to(vi)).sum(dim=1, keepdim=True)
    return fusion_loss(fused, ir, y, weight=config.loss_weight, target=config.target)


def freeze_norm(net: nn.Module) -> None:
    """Let BatchNorm use, and keep, its running statistics until the next ``net.train()``."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


class Trainer:
    """A training in a folder: ``checkpoint.pt``, ``log.csv``, ``best.safetensors``, ``last…``.

    Args:
        config: the recipe.
        encoder: frozen image encoder.
        train: training pairs.
        val: validation pairs, never test pairs; may be empty.
        folder: where everything is written.
        device: where to compute.
        resume: continue a checkpoint that is found; False starts anew and replaces it.
        compiled: run training steps through ``torch.compile`` (needs a C++ compiler on the CPU).
        init: weights to start from instead of random ones.

    Raises:
        TrainingError: nothing to train on, or the checkpoint belongs to another recipe or data.
        WeightsError: ``init`` is for another network; only ``residual`` may differ.
    """

    def __init__(
        self,
        config: TrainConfig,
        encoder: ImageEncoder,
        train: Sequence[Pair],
        val: Sequence[Pair],
        folder: Path | str,
        device: str | torch.device = "cpu",
        resume: bool = True,
        compiled: bool = False,
        init: Weights | None = None,
    ):
        network = dataclasses.replace(config.network, embed=encoder.embed)
        self.config = dataclasses.replace(config, network=network)
        self.device, self.folder = torch.device(device), Path(folder)
        self.encoder = encoder.to(self.device)
        self.train_images = Images(train, config.crop)
        self.val_images = Images(val, config.crop) if val else None
        self.total = config.total_steps(len(train))
        with torch.random.fork_rng():  # leaves the caller's generator alone
            torch.manual_seed(config.seed)
            net = FusionNet(network)
        self.init = init
        if init is not None:
            start_from(net, init)
        # channels_last: the convolutions of this network run in 0.6 of the time on the CPU
        self.net = net.to(self.device, memory_format=torch.channels_last)
        self._fuse = torch.compile(self.net) if compiled else self.net
        self.kept = copy.deepcopy(self.net) if config.average else self.net  # what is saved
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.lr)
        self.step, self.best, self.log = 0, math.inf, []
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob("*.[0-9]*.tmp"):  # of a process killed while writing
            leftover.unlink()
        if resume and (self.folder / "checkpoint.pt").is_file():
            self._resume()

    def run(self, until: int | None = None, progress: bool = True) -> list[dict[str, float]]:
        """Train to the end, or to a step; returns the log, one row a step (`LOG_COLUMNS`).

        Raises:
            TrainingError: a loss or gradient that is not finite; nothing is written after it.
        """
        stop = self.total if until is None else min(until, self.total)
        bar = tqdm(
            total=self.total, initial=self.step, desc="training", unit="step", disable=not progress
        )
        with bar:
            while self.step < stop:
                row = self._step()
                self.step += 1
                if self.step % self.config.validate_every == 0 or self.step == self.total:
                    row |= self._validate()
                self.log.append(row)
                if self.step % self.config.validate_every == 0 or self.step == stop:
                    self._save(row)
                bar.set_postfix(loss=f"{row['loss']:.4f}", val=f"{self.best:.4f}", refresh=False)
                bar.update()
        return self.log

    def _step(self) -> dict[str, float]:
        lr = learning_rate(self.step, self.total, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        indices = batch_indices(self.step, len(self.train_images), self.config)
        rng = np.random.default_rng([self.config.seed, 2, self.step])
        ir, vi = self.train_images.crops(indices, self.config.crop, rng)
        self.net.train()
        if self.step >= self.config.freeze_norm * self.total:
            freeze_norm(self.net)
        losses = forward_loss(
            self._fuse, self.encoder, ir.to(self.device), vi.to(self.device), self.config
        )
        self.optimizer.zero_grad(set_to_none=True)
        losses.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip_norm)
        values = {key: float(value.detach()) for key, value in losses._asdict().items()}
        bad = [
            key
            for key, value in (values | {"gradient": float(norm)}).items()
            if not math.isfinite(value)
        ]
        if bad:
            names = ", ".join(str(self.train_images.pairs[i].ir) for i in indices)
            raise TrainingError(
                f"step {self.step}: {', '.join(bad)} not finite, with {names}; the last "
                f"checkpoint in {self.folder} is from before. Try a smaller lr_peak."
            )
        self.optimizer.step()
        self._average()
        return {"step": self.step, "lr": lr, **values}

    @torch.no_grad()
    def _average(self) -> None:
        """Move the kept weights towards the present ones, BatchNorm's statistics among them."""
        if self.kept is self.net:
            return
        present = self.net.state_dict()
        for key, value in self.kept.state_dict().items():
            if value.is_floating_point():
                value.lerp_(present[key], 1 - self.config.average)
            else:  # BatchNorm's count of batches
                value.copy_(present[key])

    def _validate(self) -> dict[str, float]:
        row = {"val_loss": self.validate(self.net)}
        if self.kept is not self.net:
            row["val_loss_average"] = self.validate(self.kept)
        return row

    @torch.no_grad()
    def validate(self, net: FusionNet) -> float:
        """Mean loss over the same crops of the validation pairs every time; NaN without pairs."""
        if self.val_images is None:
            return math.nan
        net.eval()
        rng = np.random.default_rng([self.config.seed, 3])
        indices = list(range(len(self.val_images))) * VALIDATION_CROPS
        total = 0.0
        for start in range(0, len(indices), self.config.batch):
            chosen = indices[start : start + self.config.batch]
            ir, vi = self.val_images.crops(chosen, self.config.crop, rng)
            losses = forward_loss(
                net, self.encoder, ir.to(self.device), vi.to(self.device), self.config
            )
            total += float(losses.loss) * len(chosen)
        return total / len(indices)

    def record(self) -> dict[str, Any]:
        """What a reader of the weights needs to know about their training."""
        counts: dict[str, int] = {}
        for pair in self.train_images.pairs:
            counts[pair.dataset] = counts.get(pair.dataset, 0) + 1
        tail = self.log[-100:]
        return {
            "config": dataclasses.asdict(self.config),
            "steps": self.step,
            "of_steps": self.total,
            "train_pairs": counts,
            "val_pairs": len(self.val_images or ()),
            "mean_loss_of_last_100_steps": sum(row["loss"] for row in tail) / max(1, len(tail)),
            "best_val_loss": None if math.isinf(self.best) else self.best,
            "init": self.init and {"sha256": self.init.sha256, "record": self.init.record},
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be continued."""
        return {
            "config": dataclasses.asdict(self.config),
            "encoder": self.encoder.fingerprint,
            "init": self.init and self.init.sha256,
            "train": [f"{pair.dataset}/{pair.name}" for pair in self.train_images.pairs],
            "val": [f"{p.dataset}/{p.name}" for p in getattr(self.val_images, "pairs", ())],
        }

    def _save(self, row: dict[str, float]) -> None:
        val_loss = row.get("val_loss_average", row.get("val_loss", math.nan))
        if val_loss < self.best:
            self.best = val_loss
            save_weights(self.folder / "best.safetensors", self.kept, self.encoder, self.record())
        save_weights(self.folder / "last.safetensors", self.kept, self.encoder, self.record())
        buffer = io.BytesIO()
        torch.save(
            {
                "identity": self._identity(),
                "net": self.net.state_dict(),
                "kept": self.kept.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "best": self.best,
                "log": self.log,
            },
            buffer,
        )
        write_log(self.folder / "log.csv", self.log)
        # last: whoever resumes from it finds all the rest written
        write_atomically(self.folder / "checkpoint.pt", buffer.getvalue())

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            found, expected = dict(state["identity"]), self._identity()
        except Exception as error:  # torch.load raises almost anything on a damaged file
            raise TrainingError(f"{path}: not a checkpoint of this project ({error})") from error
        different = [
            f"{key}: {_difference(found.get(key), expected[key])}"
            for key in expected
            if found.get(key) != expected[key]
        ]
        if different:
            raise TrainingError(
                f"{path} belongs to another training ({'; '.join(different)}); give another "
                f"folder, or the settings it was started with"
            )
        self.net.load_state_dict(state["net"])
        self.kept.load_state_dict(state["kept"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best, self.log = state["step"], state["best"], state["log"]


def start_from(net: FusionNet, init: Weights) -> None:
    """Copy weights into a network; if ``residual`` differs, its last layer stays as it is.

    Raises:
        WeightsError: any other setting of the two networks differs.
    """
    settings = dataclasses.replace(init.net.config, residual=net.config.residual)
    if settings != net.config:
        raise WeightsError(f"{init.path} is for {init.net.config}, not for {net.config}")
    tensors = init.net.state_dict()
    if init.net.config != net.config:  # a fused luma is not a correction to the maximum
        last = f"decoder.{len(net.decoder) - 2}."
        tensors |= {k: v for k, v in net.state_dict().items() if k.startswith(last)}
    net.load_state_dict(tensors)


def _difference(found: Any, expected: Any) -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = [key for key in expected if found.get(key) != expected[key]]
        return ", ".join(f"{key} was {found.get(key)!r}, is {expected[key]!r}" for key in keys)
    if isinstance(found, list):
        return f"{len(found)} pairs, now {len(expected)}, or others"
    return f"{found!r}, now {expected!r}"


def write_log(path: Path, log: Sequence[dict[str, float]]) -> None:
    """The training log as CSV (`LOG_COLUMNS`), one row a step."""
    text = io.StringIO()
    writer = csv.DictWriter(text, LOG_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(log)
    write_atomically(path, text.getvalue().encode())
