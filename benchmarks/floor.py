"""Where the time of fusing goes, and how far each kind of operation is from what it must take.

    python benchmarks/floor.py                    # Markdown to the terminal, CSV beside this file

Every operation of one image is timed, its arithmetic counted by PyTorch's formulas, and the bytes
of the tensors it reads and writes added up. Its floor is the longer of two times: the arithmetic at
the rate of a large product of matrices or convolution in fp32, and the bytes at the rate at which
a tensor as large as those of a tile is copied; both rates are measured first. The last but one row
is what no cache can spare: the feature map, read twice and written once by each Restormer block.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from results import show, write
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry

from fusionlib import inference
from fusionlib.tiles import TILE

HEADER = ("kind", "s_per_mp", "share", "mflop_per_px", "gflop_per_s", "gb_per_s", "times_floor")
COPIES = ("clone", "copy_", "cat", "_to_copy", "_unsafe_view")
VIEWS = 2e-5  # seconds below which an operation without arithmetic only changes a shape


class Timer(TorchDispatchMode):
    """Adds up seconds, floating point operations and bytes by kind of operation."""

    def __init__(self):
        super().__init__()
        self.sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3))

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        start = time.perf_counter()
        out = function(*arguments, **(keywords or {}))
        seconds = time.perf_counter() - start
        name, flops = kind(function, arguments), operations(function, arguments, keywords, out)
        if flops or seconds > VIEWS:
            tensors = [x for x in tree_leaves((arguments, keywords, out)) if isinstance(x, Tensor)]
            moved = sum(x.numel() * x.element_size() for x in tensors)
            self.sums[name] += seconds, flops, moved
        return out


def kind(function: Callable, arguments: tuple) -> str:
    """What a row of the table sums up."""
    name = function.overloadpacket.__name__
    if "conv" in name:
        weight = arguments[1]
        if weight.shape[-1] == 1:
            return "1×1 convolutions"
        return "depth-wise convolutions" if weight.shape[1] == 1 else "3×3 convolutions"
    if name in ("mm", "bmm", "addmm", "matmul", "linear"):
        return "q · kᵀ and linear layers"
    if "norm" in name:
        return "normalisation"
    if name in COPIES:
        return "cutting tiles, putting them back"
    return "GELU" if "gelu" in name else "other, element by element"


def operations(function: Callable, arguments: tuple, keywords: dict | None, out: object) -> int:
    """Floating point operations of products and convolutions; what else there is has no formula."""
    packet = function.overloadpacket
    if "conv" in packet.__name__:
        return conv_flop_count(arguments[0].shape, arguments[1].shape, out.shape)
    if packet in (torch.ops.aten.matmul, torch.ops.aten.linear):
        return 2 * out.numel() * arguments[0].shape[-1]
    formula = flop_registry.get(packet)
    return formula(*arguments, **(keywords or {}), out_val=out) if formula else 0


def median(call: Callable, repeats: int) -> float:
    """Seconds."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def rates() -> tuple[float, float, float]:
    """Operations a second at best; bytes a second of a tile's copy, and of a large one."""
    a, b = torch.rand(2, 2048, 2048)
    layer = torch.nn.Conv2d(256, 256, 3).to(memory_format=torch.channels_last)
    x = torch.rand(1, 256, TILE, TILE).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        product = max(
            2 * 2048**3 / median(lambda: a @ b, 10),
            2 * layer.weight.numel() * (TILE - 2) ** 2 / median(lambda: layer(x), 10),
        )
    tile, out = torch.rand(2, 170, TILE, TILE)
    cached = 2 * tile.nbytes / median(lambda: out.copy_(tile), 200)
    large, target = torch.rand(2, 100_000_000)
    return product, cached, 2 * large.nbytes / median(lambda: target.copy_(large), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs=2, type=int, default=[1024, 1280], help="height, width")
    options = parser.parse_args()
    height, width = options.size
    rng = np.random.default_rng(0)
    ir, vi = rng.random((height, width), np.float32), rng.random((height, width, 3), np.float32)
    inference.reuse_memory()
    fuser, area = inference.load_fuser(), height * width / 1e6
    product, cached, memory = rates()
    untimed = median(lambda: fuser(ir, vi), 3)
    with Timer() as timer:
        fuser(ir, vi)
    total = sum(seconds for seconds, _, _ in timer.sums.values())
    rows = []
    for name, (seconds, flops, moved) in sorted(timer.sums.items(), key=lambda x: -x[1][0]):
        floor = max(flops / product, moved / cached)
        shown = seconds / area, seconds / total, flops / area / 1e12, flops / seconds / 1e9
        shown += moved / seconds / 1e9, seconds / floor
        rows.append((name, *(f"{x:.{d}f}" for x, d in zip(shown, (3, 3, 4, 1, 1, 1), strict=True))))
    config = fuser.weights.net.config
    passes = 3 * (2 * config.blocks * config.width + config.blocks * 2 * config.width) * 4  # B/px
    rows.append(("the feature map, once through memory", f"{passes * 1e6 / memory:.3f}", *[""] * 5))
    rows.append(("all, not timed one by one", f"{untimed / area:.3f}", *[""] * 5))
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, {width}×{height}")
    print(f"arithmetic {product / 1e9:.0f} GFLOP/s, copy of a tile {cached / 1e9:.0f} GB/s,")
    print(f"copy of 400 MB {memory / 1e9:.0f} GB/s\n")
    show(HEADER, rows)
    write(__file__, HEADER, rows)


if __name__ == "__main__":
    main()
