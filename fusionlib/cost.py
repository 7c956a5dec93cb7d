"""What a method costs on this machine: parameters, multiply–adds, time, memory.

Each method is measured in a fresh process, so that none inherits the memory or the warm caches of
another, all of them one after the other, on the CPU, with the same threads and allocator settings.
"""

import re
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count
from tqdm.auto import tqdm

from fusionlib import inference
from fusionlib.baselines import NetworkMethod, find_method
from fusionlib.baselines.reported import OURS

SIZE = (480, 640)  # of the images fused, as in MSRS
REPEATS = 3
WARM = 64  # side of the image that is fused before anything is measured
STATUS = Path("/proc/self/status")  # Linux
RESET = Path("/proc/self/clear_refs")
COLUMNS = (
    "method",
    "parameters",
    "frozen encoder",
    "G multiply-adds",
    "s/MP",
    "peak memory, MB",
)


def measure_costs(
    methods: Sequence[str],
    weights: Path | str | None = None,
    encoder: str | None = None,
    *,
    size: tuple[int, int] = SIZE,
    repeats: int = REPEATS,
    threads: int | None = None,
) -> pd.DataFrame:
    """Cost of fusing one pair of images, one row a method.

    Args:
        methods: keys of `fusionlib.baselines.METHODS`, or ``ours``.
        weights: of ours; None for the shipped ones.
        encoder: of ours; None for the one the weights name.
        size: (height, width) of the images.
        repeats: the time is the median of so many, after one that does not count.
        threads: of PyTorch; None for as many as this process uses.

    Returns:
        Index ``method``; columns ``parameters`` (trained), ``frozen encoder`` (its parameters),
        ``G multiply-adds`` (10⁹, convolutions and matrix products of one pair), ``s/MP`` (seconds
        per megapixel), ``peak memory, MB`` (resident, above that of the process before; NaN where
        the system does not tell).

    Raises:
        WeightsError: unknown method, or weights that are not there.
    """
    threads = threads or torch.get_num_threads()
    rows = []
    for name in tqdm(methods, desc="cost", unit="method"):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            job = process.submit(measure_cost, name, weights, encoder, size, repeats, threads)
            rows.append(job.result())
    return pd.DataFrame(rows, columns=COLUMNS).set_index("method")


def measure_cost(
    name: str,
    weights: Path | str | None,
    encoder: str | None,
    size: tuple[int, int],
    repeats: int,
    threads: int,
) -> tuple:
    """One row of `measure_costs`; meant for a process of its own, whose threads it sets."""
    torch.set_num_threads(threads)
    inference.reuse_memory()
    fuse, parameters, frozen = _prepare(name, weights, encoder)
    rng = np.random.default_rng(0)
    ir, vi = rng.random(size, dtype=np.float32), rng.random((*size, 3), dtype=np.float32)
    fuse(ir[:WARM, :WARM], vi[:WARM, :WARM])  # threads and libraries are set up
    _forget_peak()
    before = _memory("VmRSS")
    fuse(ir, vi)  # the time of the first does not count
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        fuse(ir, vi)
        seconds.append(time.perf_counter() - start)
    peak = _memory("VmHWM") - before
    operations = _count_operations(fuse, ir, vi)
    per_megapixel = statistics.median(seconds) / (size[0] * size[1] / 1e6)
    return name, parameters, frozen, operations / 1e9, per_megapixel, peak


def _prepare(name, weights, encoder) -> tuple[Callable, int, int]:
    """What fuses, its trained parameters, those of its frozen encoder."""
    if name == OURS:
        fuser = inference.load_fuser(weights, encoder)
        return fuser, _count(fuser.weights.net), _count(fuser.encoder)
    method = find_method(name)
    parameters = _count(method.network()) if isinstance(method, NetworkMethod) else 0
    return method.fuse, parameters, 0


def _count_operations(fuse: Callable, ir: np.ndarray, vi: np.ndarray) -> float:
    """Multiply–adds in convolutions and matrix products."""
    tiles = {torch.ops.aten.mkldnn_convolution: _convolution}  # ours, see fusionlib.banded
    counter = FlopCounterMode(display=False, custom_mapping=tiles)
    known, aten = counter.flop_registry, torch.ops.aten
    counter.flop_registry = known | {aten.addmm_: known[aten.addmm]}  # LRRNet's, in place
    with counter:
        fuse(ir, vi)
    return counter.get_total_flops() / 2  # it counts a multiply–add as two


def _convolution(x_shape, weight_shape, *_, out_shape, **__) -> int:
    return conv_flop_count(list(x_shape), list(weight_shape), list(out_shape))


def _count(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _memory(key: str) -> float:
    """Resident memory of this process, MB: now (VmRSS) or at most (VmHWM); NaN if not told."""
    if not STATUS.is_file():
        return float("nan")
    told = STATUS.read_text(encoding="utf-8")
    return int(re.search(rf"^{key}:\s+(\d+) kB", told, re.M)[1]) / 1024


def _forget_peak() -> None:
    """Let VmHWM start anew, so that what loading took does not count."""
    if RESET.is_file():
        RESET.write_text("5", encoding="utf-8")
