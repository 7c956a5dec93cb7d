"""Training after section 4.2 of the paper; it can stop at any step and go on exactly.

The loss of a batch, then the `Trainer`: its loop, its step, its checkpoint. Settings and learning
rates are in `recipe`, crops in `crops`. Everything random in step k is drawn from a generator that
is seeded with (seed, k) alone, so the state of a training is its weights, its optimizer and k.
Under ``torchrun`` or ``accelerate launch`` each process takes its share of every batch.
"""

import copy
import dataclasses
import io
import json
import math
import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib.crops import Images, batch_indices
from fusionlib.datasets import Pair
from fusionlib.encoder import ImageEncoder
from fusionlib.errors import TrainingError, WeightsError
from fusionlib.files import lock, noted_interrupts, write_atomically
from fusionlib.losses import Losses, fusion_loss
from fusionlib.network import LUMA, FusionNet, RestormerBlock
from fusionlib.recipe import TrainConfig, code_fingerprint, learning_rate
from fusionlib.versions import commit, processor
from fusionlib.weights import Weights, save_weights

STATEFUL, PLAIN = ("net", "kept", "optimizer"), ("step", "best", "log", "seconds", "forced")
VALIDATION_CROPS = 2  # of each validation pair
UNREAD = {"cpu": 1}  # steps before the losses are read; a GPU that is not waited for stays busy
LOG_COLUMNS = ("step", "lr", "loss", "loss_int", "loss_grad", "val_loss", "val_loss_average")


def forward_loss(
    net: nn.Module, encoder: ImageEncoder, ir: Tensor, vi: Tensor, config: TrainConfig
) -> Losses:
    """Fuse crops in [0, 1] and compare them with their sources, equations 6 to 8.

    Args:
        net: the network, or what wraps it.
        encoder: the frozen encoder; it sees the crops.
        ir: (B, 1, H, W).
        vi: (B, 3, H, W).
        config: precision, λ and target.
    """
    with torch.autocast(ir.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        features = encoder(torch.cat([ir.expand(-1, 3, -1, -1), vi]))  # both images in one batch
        c_ir, c_vi = features.chunk(2)
        fused = net(2 * ir - 1, 2 * vi - 1, c_ir, c_vi)
    y = (vi * LUMA.to(vi)).sum(dim=1, keepdim=True)  # (B, 1, H, W)
    fused = (fused.float() + 1) / 2
    return fusion_loss(fused, ir, y, weight=config.loss_weight, target=config.target)


def freeze_norm(net: nn.Module) -> None:
    """Let BatchNorm use, and keep, its running statistics until the next ``net.train()``."""
    for module in (m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
        module.eval()


class Trainer:
    """A training in a folder: ``checkpoint.pt``, ``log.csv``, ``best.safetensors``, ``last…``.

    Args:
        config: the recipe.
        encoder: frozen image encoder.
        train: training pairs.
        val: validation pairs, never test pairs; may be empty.
        folder: where everything is written.
        device: where to compute; several processes take theirs from the launcher.
        resume: continue a checkpoint that is found; False starts anew and replaces it, ``force``
            continues one of another recipe, other data or other code, and records that.
        compiled: run the Restormer blocks through ``torch.compile``.
        init: weights to start from instead of random ones.
        about: what else the record of the weights says of the data; JSON-serialisable.
        reading: options of `fusionlib.datasets.load_pair`.

    Raises:
        TrainingError: nothing to train on, or the checkpoint belongs to another recipe or data.
        WeightsError: ``init`` is for another network.
    """

    def __init__(
        self,
        config: TrainConfig,
        encoder: ImageEncoder,
        train: Sequence[Pair],
        val: Sequence[Pair],
        folder: Path | str,
        device: str | torch.device = "cpu",
        resume: bool | Literal["force"] = True,
        compiled: bool = False,
        init: Weights | None = None,
        about: Mapping[str, Any] | None = None,
        **reading: object,
    ):
        network = dataclasses.replace(config.network, embed=encoder.embed)
        self.config = dataclasses.replace(config, network=network)
        self.device, self.folder, self.init = torch.device(device), Path(folder), init
        self.processes = PartialState(cpu=self.device.type == "cpu")
        if self.processes.use_distributed:
            self.device = self.processes.device
        self._check_batch(len(train))
        self.encoder = encoder.to(self.device)
        self.train_images = Images(train, config.crop, **reading)
        self.val_images = Images(val, config.crop, **reading) if val else None
        self.about = {**(about or {}), **({"reading": reading} if reading else {})}
        self.total = config.total_steps(len(train))
        self._build(compiled)
        self.step, self.best, self.log, self._unread = 0, math.inf, [], []
        self.seconds, self.forced, self._identity = 0.0, [], self._describe()
        if self.processes.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.processes.wait_for_everyone()
        if resume and (self.folder / "checkpoint.pt").is_file():
            self._resume(force=resume == "force")

    def _check_batch(self, pairs: int) -> None:
        batch, processes = self.config.batch, self.processes.num_processes
        if 0 < pairs < batch:
            raise TrainingError(f"a batch of {batch} is larger than the {pairs} training pairs")
        if batch % processes:
            raise TrainingError(f"a batch of {batch} cannot be shared by {processes} processes")

    def _build(self, compiled: bool) -> None:
        """Network, what is kept of it, and optimizer."""
        with torch.random.fork_rng(devices=[]):  # leaves the caller's generators alone
            torch.default_generator.manual_seed(self.config.seed)  # the network starts on the CPU
            net = FusionNet(self.config.network)
        if (init := self.init) is not None:
            if init.net.config != net.config:
                raise WeightsError(f"{init.path} is for {init.net.config}, not for {net.config}")
            net.load_state_dict(init.net.state_dict())
        # channels_last: the convolutions of this network run in 0.6 of the time on the CPU
        self.net = net.to(self.device, memory_format=torch.channels_last)
        self.kept = copy.deepcopy(self.net) if self.config.average else self.net  # what is saved
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=self.config.lr)
        if compiled:
            for block in (m for m in self.net.modules() if isinstance(m, RestormerBlock)):
                block.compile(dynamic=False)
        self._fuse: nn.Module = self.net
        if self.processes.use_distributed:
            if self.device.type == "cuda":
                self.net = nn.SyncBatchNorm.convert_sync_batchnorm(self.net)
            self._fuse = nn.parallel.DistributedDataParallel(self.net)

    def run(self, until: int | None = None, progress: bool = True) -> list[dict[str, float]]:
        """Train to the end, or to a step; returns the log, one row a step (`LOG_COLUMNS`).

        Raises:
            TrainingError: a loss or gradient that is not finite; nothing is written after it but
                ``nan_report.json``. Or another training is at work in the folder.
            KeyboardInterrupt: Ctrl-C; the step is finished and a checkpoint written before (a
                second one interrupts at once, as does one that reaches several processes).
        """
        stop = self.total if until is None else min(until, self.total)
        if self.step >= stop:
            return self.log
        is_main = self.processes.is_main_process
        hidden = {} if progress and is_main else {"disable": True}  # else TQDM_DISABLE decides
        with (
            self._alone() if is_main else nullcontext(),
            tqdm(total=self.total, initial=self.step, desc="training", **hidden) as bar,
            noted_interrupts(not self.processes.use_distributed) as interrupts,
        ):
            started = time.monotonic()
            for batch in self._batches(stop):
                self._step(*batch)
                self.step += 1
                bar.update()
                validates = self.step % self.config.validate_every == 0 or self.step == self.total
                due = validates or interrupts or self.step == stop
                if not due and len(self._unread) < UNREAD.get(self.device.type, 50):
                    continue
                row = self._read_losses()
                if validates:
                    row["val_loss"] = self.validate(self.net)
                    if self.kept is not self.net:
                        row["val_loss_average"] = self.validate(self.kept)
                if due:
                    self.seconds += time.monotonic() - started
                    started = time.monotonic()
                    self._save(row)
                if interrupts:
                    raise KeyboardInterrupt
                best = {} if math.isinf(self.best) else {"val": f"{self.best:.4f}"}
                bar.set_postfix(loss=f"{row['loss']:.4f}", **best, refresh=False)
        return self.log

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One training at a time in a folder."""
        with lock(self.folder / ".training.lock", TrainingError):
            for leftover in self.folder.glob("*.[0-9]*.tmp"):  # of a process killed while writing
                leftover.unlink()
            (self.folder / "nan_report.json").unlink(missing_ok=True)  # of the run before
            yield

    def _batches(self, stop: int) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """What the steps up to ``stop`` see, each cut while the one before is computed."""
        with ThreadPoolExecutor(1) as ahead:
            upcoming = ahead.submit(self._batch, self.step)
            for step in range(self.step + 1, stop):
                batch, upcoming = upcoming.result(), ahead.submit(self._batch, step)
                yield batch
            yield upcoming.result()

    def _batch(self, step: int) -> tuple[list[int], Tensor, Tensor]:
        """Which pairs a step sees, and this process's share of their crops."""
        config, processes = self.config, self.processes
        indices = batch_indices(step, len(self.train_images), config.batch, config.seed)
        rng = np.random.default_rng([config.seed, 2, step])
        crops = self.train_images.crops(indices, config.crop, rng)  # all processes draw alike
        share = slice(processes.process_index, None, processes.num_processes)
        ir, vi = (x[share].pin_memory() if self.device.type == "cuda" else x[share] for x in crops)
        return indices, ir, vi

    def _step(self, indices: list[int], ir: Tensor, vi: Tensor) -> None:
        lr = learning_rate(self.step, self.total, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        ir, vi = (x.to(self.device, non_blocking=True) for x in (ir, vi))
        self.net.train()
        if self.step >= self.config.freeze_norm * self.total:
            freeze_norm(self.net)
        losses = forward_loss(self._fuse, self.encoder, ir, vi, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        losses.loss.backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.config.clip_norm or math.inf)
        self._unread.append((self.step, lr, indices, torch.stack([*losses, norm]).detach()))
        self.optimizer.step()
        self._average()

    def _read_losses(self) -> dict[str, float]:
        """Wait for the device; check the losses of the latest steps and log them."""
        steps, rates, indices, losses = zip(*self._unread, strict=True)
        self._unread.clear()
        means = reduce(torch.stack(losses), "mean").tolist()
        for step, lr, chosen, (*values, norm) in zip(steps, rates, indices, means, strict=True):
            row = dict(zip(Losses._fields, values, strict=True))
            self._check_finite(step, row | {"gradient": norm}, chosen)
            self.log.append({"step": step, "lr": lr, **row})
        return self.log[-1]

    def _check_finite(self, step: int, values: dict[str, float], indices: Sequence[int]) -> None:
        bad = [key for key, value in values.items() if not math.isfinite(value)]
        if not bad:
            return
        files = [str(self.train_images.pairs[i].ir) for i in indices]
        report = {"step": step, "not_finite": bad, "infrared_images": files}
        report |= {key: repr(value) for key, value in values.items()}
        if self.processes.is_main_process:
            write_atomically(self.folder / "nan_report.json", json.dumps(report, indent=1).encode())
        raise TrainingError(
            f"step {step}: {', '.join(bad)} not finite, with {', '.join(files)}; the last "
            f"checkpoint in {self.folder} is from before. Try a smaller lr_peak."
        )

    @torch.no_grad()
    def _average(self) -> None:
        """Move the kept weights towards the present ones, with BatchNorm's statistics."""
        if self.kept is self.net:
            return
        present = self.net.state_dict()
        for key, value in self.kept.state_dict().items():
            if value.is_floating_point():
                value.lerp_(present[key], 1 - self.config.average)
            else:  # BatchNorm's count of batches
                value.copy_(present[key])

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
            crops = self.val_images.crops(chosen, self.config.crop, rng)
            ir, vi = (x.to(self.device) for x in crops)
            loss = forward_loss(net, self.encoder, ir, vi, self.config).loss
            total += float(loss) * len(chosen)
        return total / len(indices)

    def record(self) -> dict[str, Any]:
        """What a reader of the weights needs to know about their training."""
        tail = self.log[-100:]
        return {
            "config": dataclasses.asdict(self.config),
            "steps": self.step,
            "of_steps": self.total,
            "train_pairs": dict(Counter(pair.dataset for pair in self.train_images.pairs)),
            "val_pairs": len(self.val_images or ()),
            "mean_loss_of_last_100_steps": sum(row["loss"] for row in tail) / max(1, len(tail)),
            "best_val_loss": None if math.isinf(self.best) else self.best,
            "init": self.init and {"sha256": self.init.sha256, "record": self.init.record},
            "train_sha256": self.train_images.fingerprint,
            **self.about,
            "commit": commit(),
            "forced": self.forced,
            "processes": self.processes.num_processes,
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }

    def _describe(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be continued."""
        settings = dataclasses.asdict(self.config)
        network = {f"network.{key}": value for key, value in settings.pop("network").items()}
        train, val = (
            f"{len(images)} pairs, sha256 {images.fingerprint}" if images else "no pairs"
            for images in (self.train_images, self.val_images)
        )
        return {
            **(settings | network),
            "encoder": self.encoder.fingerprint,
            "init": self.init and self.init.sha256,
            "training images": train,
            "validation images": val,
            "code": code_fingerprint(),
        }

    def _save(self, row: dict[str, float]) -> None:
        val_loss = row.get("val_loss_average", row.get("val_loss", math.nan))
        improved = val_loss < self.best
        self.best = val_loss if improved else self.best
        if self.processes.is_main_process:
            # beside the weights, not in them, so that equal trainings make equal files
            machine = {"machine": processor(self.device), "seconds": round(self.seconds, 1)}
            for name in ("best", "last") if improved else ("last",):
                path = self.folder / f"{name}.safetensors"
                save_weights(path, self.kept, self.encoder, self.record(), machine)
            log = pd.DataFrame(self.log, columns=LOG_COLUMNS)  # one row a step
            text = log.to_csv(index=False, lineterminator="\n")
            write_atomically(self.folder / "log.csv", text.encode())
            state = {key: getattr(self, key) for key in PLAIN}
            parts = {key: getattr(self, key).state_dict() for key in STATEFUL}
            buffer = io.BytesIO()
            torch.save(state | parts | {"identity": self._identity}, buffer)
            # last: whoever resumes from it finds all the rest written
            write_atomically(self.folder / "checkpoint.pt", buffer.getvalue())
        self.processes.wait_for_everyone()

    def _resume(self, force: bool) -> None:
        path = self.folder / "checkpoint.pt"
        try:
            # accelerate calls the CPU of a process cpu:0; torch.load only knows cpu
            where = "cpu" if self.device.type == "cpu" else self.device
            state = torch.load(path, map_location=where, weights_only=True)  # executes nothing
            was = dict(state["identity"])
        except Exception as error:  # torch.load raises almost anything on a damaged file
            raise TrainingError(f"{path}: not a checkpoint of this project ({error})") from error
        different = [
            f"{key} was {was.get(key)!r}, is {now!r}"
            for key, now in self._identity.items()
            if was.get(key) != now
        ]
        if different and not force:
            raise TrainingError(
                f"{path} belongs to another training ({'; '.join(different)}); give another "
                f"folder, or the settings it was started with, or --force-resume"
            )
        for key in STATEFUL:
            getattr(self, key).load_state_dict(state[key])
        for key in PLAIN:
            setattr(self, key, state[key])
        self.forced += different
