"""Training after section 4.2 of the paper; it can stop at any step and go on exactly.

Everything random in step k (which pairs, which crops, which flips) is drawn from a generator that
is seeded with (seed, k) alone, so the state of a training is its weights, its optimizer and k.
Under ``torchrun`` or ``accelerate launch`` each process takes its share of every batch.
"""

import copy
import csv
import dataclasses
import io
import json
import math
import platform
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from filelock import FileLock, Timeout
from torch import Tensor, nn
from tqdm.auto import tqdm

from fusionlib.checkpoints import code_fingerprint, differences, read_checkpoint
from fusionlib.clip import ImageEncoder
from fusionlib.crops import Images, batch_indices
from fusionlib.datasets import Pair
from fusionlib.errors import TrainingError, WeightsError
from fusionlib.files import write_atomically
from fusionlib.images import save_image
from fusionlib.losses import Losses, fusion_loss
from fusionlib.network import LUMA, FusionNet
from fusionlib.recipe import TrainConfig, learning_rate
from fusionlib.versions import commit, processor
from fusionlib.weights import Weights, save_weights

VALIDATION_CROPS = 2  # of each validation pair
LOOKED_AT = 4  # crops in look.png
LOG_COLUMNS = ("step", "lr", "loss", "loss_int", "loss_grad", "val_loss", "val_loss_average")


def forward_loss(
    net: nn.Module, encoder: ImageEncoder, ir: Tensor, vi: Tensor, config: TrainConfig
) -> Losses:
    """Fuse crops in [0, 1] and compare with their sources, equations 6 to 8."""
    fused, y = fuse_crops(net, encoder, ir, vi, config)
    return fusion_loss(fused, ir, y, weight=config.loss_weight, target=config.target)


def fuse_crops(
    net: nn.Module, encoder: ImageEncoder, ir: Tensor, vi: Tensor, config: TrainConfig
) -> tuple[Tensor, Tensor]:
    """Fused luma and luma of the visible crops, each (B, 1, H, W) in [0, 1], both float32."""
    with torch.autocast(ir.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        features = encoder(torch.cat([ir.expand(-1, 3, -1, -1), vi]))  # both images in one batch
        c_ir, c_vi = features.chunk(2)
        fused = net(2 * ir - 1, 2 * vi - 1, c_ir, c_vi)
    fused = (fused.float() + 1) / 2
    return fused, (vi * LUMA.to(vi)).sum(dim=1, keepdim=True)


def freeze_norm(net: nn.Module) -> None:
    """Let BatchNorm use, and keep, its running statistics until the next ``net.train()``."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


class Trainer:
    """A training in a folder: ``checkpoint.pt``, ``log.csv``, ``best.safetensors``, ``last…``.

    ``look.png`` shows validation crops, infrared, visible and fused, as they are at present.

    Args:
        config: the recipe.
        encoder: frozen image encoder.
        train: training pairs.
        val: validation pairs, never test pairs; may be empty.
        folder: where everything is written.
        device: where to compute; several processes take theirs from the launcher.
        resume: continue a checkpoint that is found; False starts anew and replaces it, ``force``
            continues one of another recipe, other data or other code, and records that.
        compiled: run training steps through ``torch.compile`` (needs a C++ compiler on the CPU).
        init: weights to start from instead of random ones.

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
    ):
        network = dataclasses.replace(config.network, embed=encoder.embed)
        self.config = dataclasses.replace(config, network=network)
        self.device, self.folder, self.init = torch.device(device), Path(folder), init
        self.processes = PartialState(cpu=self.device.type == "cpu")
        if self.processes.use_distributed:
            self.device = self.processes.device
        self._check_batch(len(train))
        self.encoder = encoder.to(self.device)
        self.train_images = Images(train, config.crop)
        self.val_images = Images(val, config.crop) if val else None
        self.total = config.total_steps(len(train))
        self._build(compiled)
        self.step, self.best, self.log = 0, math.inf, []
        self.seconds, self.forced, self._identity = 0.0, [], self._describe()
        if self.processes.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.processes.wait_for_everyone()
        if resume and (self.folder / "checkpoint.pt").is_file():
            self._resume(force=resume == "force")

    def _check_batch(self, pairs: int) -> None:
        batch, processes = self.config.batch, self.processes.num_processes
        if 0 < pairs < batch:
            raise TrainingError(
                f"a batch of {batch} is larger than the {pairs} training pairs: give a smaller one"
            )
        if batch % processes:
            raise TrainingError(f"a batch of {batch} cannot be shared by {processes} processes")

    def _build(self, compiled: bool) -> None:
        """Network, what is kept of it, and optimizer."""
        with torch.random.fork_rng(devices=[]):  # leaves the caller's generators alone
            torch.default_generator.manual_seed(self.config.seed)  # the network starts on the CPU
            net = FusionNet(self.config.network)
        if self.init is not None:
            if self.init.net.config != net.config:
                raise WeightsError(
                    f"{self.init.path} is for {self.init.net.config}, not for {net.config}"
                )
            net.load_state_dict(self.init.net.state_dict())
        # channels_last: the convolutions of this network run in 0.6 of the time on the CPU
        self.net = net.to(self.device, memory_format=torch.channels_last)
        self.kept = copy.deepcopy(self.net) if self.config.average else self.net  # what is saved
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=self.config.lr)
        self._fuse: nn.Module = self.net
        if self.processes.use_distributed:
            if self.device.type == "cuda":
                self.net = nn.SyncBatchNorm.convert_sync_batchnorm(self.net)
            self._fuse = nn.parallel.DistributedDataParallel(self.net)
        if compiled:
            self._fuse = torch.compile(self._fuse)

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
        look = {"desc": "training", "unit": "step", "disable": not (progress and is_main)}
        with (
            _alone_in(self.folder) if is_main else nullcontext(),
            tqdm(total=self.total, initial=self.step, **look) as bar,
            _noted_interrupts(not self.processes.use_distributed) as interrupts,
        ):
            started = time.monotonic()
            while self.step < stop:
                row = self._step()
                self.step += 1
                if self.step % self.config.validate_every == 0 or self.step == self.total:
                    row |= self._validate()
                self.log.append(row)
                due = self.step % self.config.validate_every == 0 or self.step == stop
                if due or interrupts:
                    self.seconds += time.monotonic() - started
                    started = time.monotonic()
                    self._save(row)
                if interrupts:
                    raise KeyboardInterrupt
                bar.set_postfix(loss=f"{row['loss']:.4f}", val=f"{self.best:.4f}", refresh=False)
                bar.update()
        return self.log

    def _step(self) -> dict[str, float]:
        lr = learning_rate(self.step, self.total, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        config = self.config
        indices = batch_indices(self.step, len(self.train_images), config.batch, config.seed)
        rng = np.random.default_rng([config.seed, 2, self.step])
        ir, vi = self._mine(*self.train_images.crops(indices, config.crop, rng))
        self.net.train()
        if self.step >= config.freeze_norm * self.total:
            freeze_norm(self.net)
        losses = forward_loss(self._fuse, self.encoder, ir, vi, config)
        self.optimizer.zero_grad(set_to_none=True)
        losses.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(
            self.net.parameters(), math.inf if config.clip_norm is None else config.clip_norm
        )
        means = reduce(torch.stack(losses).detach(), "mean").tolist()
        values = dict(zip(Losses._fields, means, strict=True))
        self._check_finite(values | {"gradient": float(norm)}, indices)
        self.optimizer.step()
        self._average()
        return {"step": self.step, "lr": lr, **values}

    def _mine(self, *batch: Tensor) -> Iterator[Tensor]:
        """This process's share of a batch that all of them drew alike."""
        share = slice(self.processes.process_index, None, self.processes.num_processes)
        return (tensor[share].to(self.device) for tensor in batch)

    def _check_finite(self, values: dict[str, float], indices: Sequence[int]) -> None:
        bad = [key for key, value in values.items() if not math.isfinite(value)]
        if not bad:
            return
        files = [str(self.train_images.pairs[i].ir) for i in indices]
        report = {"step": self.step, "not_finite": bad, "infrared_images": files}
        report |= {key: repr(value) for key, value in values.items()}
        if self.processes.is_main_process:
            text = json.dumps(report, indent=1) + "\n"
            write_atomically(self.folder / "nan_report.json", text.encode())
        raise TrainingError(
            f"step {self.step}: {', '.join(bad)} not finite, with {', '.join(files)}; the last "
            f"checkpoint in {self.folder} is from before. Try a smaller lr_peak."
        )

    @torch.no_grad()
    def _average(self) -> None:
        """Move the kept weights towards the present ones, BatchNorm's statistics among them."""
        if self.kept is self.net:
            return
        if self.processes.use_distributed:  # each has seen other crops
            for buffer in self.net.buffers():
                torch.distributed.broadcast(buffer, 0)
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
        for number, start in enumerate(range(0, len(indices), self.config.batch)):
            chosen = indices[start : start + self.config.batch]
            ir, vi = self.val_images.crops(chosen, self.config.crop, rng)
            if number % self.processes.num_processes == self.processes.process_index:
                ir, vi = ir.to(self.device), vi.to(self.device)
                loss = forward_loss(net, self.encoder, ir, vi, self.config).loss
                total += float(loss) * len(chosen)
        everywhere = reduce(torch.tensor(total, device=self.device), "sum")
        return float(everywhere) / len(indices)

    @torch.no_grad()
    def look(self) -> np.ndarray:
        """Crops of the first validation pairs: infrared, luma, fused, (3 crop, n crop), [0, 1]."""
        images = self.val_images or self.train_images
        rng = np.random.default_rng([self.config.seed, 3])
        ir, vi = images.crops(range(min(LOOKED_AT, len(images))), self.config.crop, rng)
        ir, vi = ir.to(self.device), vi.to(self.device)
        fused, y = fuse_crops(self.kept.eval(), self.encoder, ir, vi, self.config)
        rows = [torch.cat(list(crops[:, 0]), dim=1) for crops in (ir, y, fused)]
        return torch.cat(rows).float().cpu().numpy()

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
            "train_sha256": self._identity["train_sha256"],
            "commit": commit(),
            "forced": self.forced,
            "processes": self.processes.num_processes,
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }

    def circumstances(self) -> dict[str, Any]:
        """What differs between equal trainings: the machine and the time it took, in seconds."""
        return {"machine": processor(self.device), "seconds": round(self.seconds, 1)}

    def _describe(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be continued."""
        return {
            "config": dataclasses.asdict(self.config),
            "encoder": self.encoder.fingerprint,
            "init": self.init and self.init.sha256,
            "train": [f"{pair.dataset}/{pair.name}" for pair in self.train_images.pairs],
            "val": [f"{p.dataset}/{p.name}" for p in getattr(self.val_images, "pairs", ())],
            "train_sha256": self.train_images.fingerprint,
            "code": code_fingerprint(),
        }

    def _save(self, row: dict[str, float]) -> None:
        val_loss = row.get("val_loss_average", row.get("val_loss", math.nan))
        improved = val_loss < self.best
        self.best = min(self.best, val_loss) if improved else self.best
        if self.processes.is_main_process:
            for name in ("best", "last") if improved else ("last",):
                save_weights(
                    self.folder / f"{name}.safetensors",
                    self.kept,
                    self.encoder,
                    self.record(),
                    self.circumstances(),
                )
            write_log(self.folder / "log.csv", self.log)
            save_image(self.folder / "look.png", self.look())
            # last: whoever resumes from it finds all the rest written
            self._save_checkpoint()
        self.processes.wait_for_everyone()

    def _save_checkpoint(self) -> None:
        buffer = io.BytesIO()
        state = {
            "identity": self._identity,
            "net": self.net.state_dict(),
            "kept": self.kept.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
            "log": self.log,
            "seconds": self.seconds,
            "forced": self.forced,
        }
        torch.save(state, buffer)
        write_atomically(self.folder / "checkpoint.pt", buffer.getvalue())

    def _resume(self, force: bool) -> None:
        path = self.folder / "checkpoint.pt"
        state = read_checkpoint(path, self.device)
        different = differences(state["identity"], self._identity)
        if different and not force:
            raise TrainingError(
                f"{path} belongs to another training ({'; '.join(different)}); give another "
                f"folder, or the settings it was started with, or --force-resume"
            )
        self.net.load_state_dict(state["net"])
        self.kept.load_state_dict(state["kept"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.best, self.log = state["step"], state["best"], state["log"]
        self.seconds, self.forced = state["seconds"], [*state["forced"], *different]


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One training at a time in a folder; the system frees the lock of a process that dies."""
    lock = FileLock(folder / ".training.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TrainingError(f"{folder}: another training is at work here") from None
    except OSError as error:
        raise TrainingError(f"{folder}: cannot work there: {error}") from error
    try:
        for leftover in folder.glob("*.[0-9]*.tmp"):  # of a process killed while writing
            leftover.unlink()
        (folder / "nan_report.json").unlink(missing_ok=True)  # of the run before
        yield
    finally:
        lock.release()


@contextmanager
def _noted_interrupts(enabled: bool) -> Iterator[list[int]]:
    """The first Ctrl-C is put into the list, the second interrupts as usual."""
    noted: list[int] = []
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(number: int, frame: object) -> None:
        noted.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


def write_log(path: Path, log: Sequence[dict[str, float]]) -> None:
    """The training log as CSV (`LOG_COLUMNS`), one row a step."""
    text = io.StringIO()
    writer = csv.DictWriter(text, LOG_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(log)
    write_atomically(path, text.getvalue().encode())
