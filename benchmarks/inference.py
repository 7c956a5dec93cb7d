"""Seconds per megapixel and peak memory of fusing, beside other networks and plainer ways.

    python benchmarks/inference.py                # Markdown to the terminal, CSV beside this file
    python benchmarks/inference.py --sizes 0.08 0.3

Each row has a process of its own; within a size they take turns, medians are compared. ``plain``:
the network as it stands, eager, fp32, default allocator. ``whole``: the same in channels_last,
without BatchNorm and with memory kept. ``ours``: what `fusionlib.inference.load_fuser` gives;
``ours, kept``: after `reuse_memory`, which pays for training only; ``ours, bf16``: the same with
the command line's ``--precision bf16``. All with the image encoder's time.
A row is left out of a size for which, going by the size before, it would take too much memory or
time. Peak memory includes what Python and PyTorch take before anything is fused (``idle``).
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from cddfuse import CDDFuseShape
from results import write
from workers import Worker, available_memory, take_turns

from fusionlib import baselines, inference
from fusionlib.images import luma
from fusionlib.tiles import without_batch_norm

Array = np.ndarray
HEADER = ("megapixels", "method", "seconds", "s_per_mp", "times_ours", "peak_gb", "idle_gb")
OURS = ("ours", "plain", "whole", "ours, kept", "ours, bf16")
LEVEL = 1 / 255


def images(size: tuple[int, int]) -> tuple[Array, Array]:
    """Infrared (H, W) and visible (H, W, 3), in [0, 1]."""
    rng = np.random.default_rng(0)
    return rng.random(size, dtype=np.float32), rng.random((*size, 3), dtype=np.float32)


def build(name: str, size: tuple[int, int]) -> Callable[[], Array]:
    """In a process of its own: a call that fuses a pair of this size; run once on a small one."""
    if name in ("whole", "ours, kept", "ours, bf16"):
        inference.reuse_memory()
    if name in OURS:
        fuser = inference.load_fuser(precision="bf16" if name.endswith("bf16") else "fp32")
        fuse = fuser if name.startswith("ours") else whole_image(fuser, name)
    elif name == "CDDFuse-shaped":
        fuse = plain_network(CDDFuseShape().eval())
    else:
        fuse = baselines.METHODS[name].fuse
    fuse(*images((64, 64)))
    pair = images(size)
    return lambda: fuse(*pair)


def whole_image(fuser: inference.Fuser, name: str) -> Callable[[Array, Array], Array]:
    """`FusionNet.forward` itself."""
    net, layout = fuser.weights.net, torch.contiguous_format
    if name == "whole":
        net, layout = without_batch_norm(net), torch.channels_last
    net = net.to(memory_format=layout)

    @torch.inference_mode()
    def fuse(ir: Array, vi: Array) -> Array:
        y, rgb = torch.from_numpy(ir)[None, None], torch.from_numpy(vi).permute(2, 0, 1)[None]
        features = fuser.encoder(y), fuser.encoder(rgb)
        rgb = rgb.contiguous(memory_format=layout)
        return (net(2 * y - 1, 2 * rgb - 1, *features)[0, 0].numpy() + 1) / 2

    return fuse


def plain_network(net: torch.nn.Module) -> Callable[[Array, Array], Array]:
    """A network of two grey images."""

    @torch.inference_mode()
    def fuse(ir: Array, vi: Array) -> Array:
        pair = (torch.from_numpy(x.astype(np.float32))[None, None] for x in (ir, luma(vi)))
        return net(*pair)[0, 0].numpy()

    return fuse


def too_much(worker: Worker | None, growth: float, most: float) -> bool:
    """Whether an image ``growth`` times as large as the last would need too much."""
    if worker is None:
        return True
    needed = worker.idle + (worker.peak - worker.idle) * growth
    return needed > 0.8 * available_memory() or worker.median * growth > most


def check(workers: dict[str, Worker]) -> None:
    """All ways to run our network must give the same image, bf16 nearly."""
    for name in OURS[1:]:
        difference = np.abs(workers["ours"].result - workers[name].result)
        share = (difference < LEVEL).mean()
        assert share >= (0.99 if name.endswith("bf16") else 1), (name, share)


def rows(workers: dict[str, Worker], area: float) -> list[tuple[str, ...]]:
    ours = workers["ours"].median
    return [
        (
            f"{area:.2f}",
            name,
            f"{worker.median:.3f}",
            f"{worker.median / area:.2f}",
            f"{worker.median / ours:.2f}",
            f"{worker.peak / 1e9:.2f}",
            f"{worker.idle / 1e9:.2f}",
        )
        for name, worker in workers.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=float, default=[0.08, 0.3, 1.3, 5])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--most", type=float, default=100, help="seconds one call may take")
    options = parser.parse_args()
    absent = baselines.missing()
    for name, reason in absent.items():
        print(f"{name} is left out: {reason}")
    names = [*OURS, "CDDFuse-shaped", *(n for n in baselines.METHODS if n not in absent)]
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}\n")
    print("| " + " | ".join(HEADER) + " |\n|" + " ---: | --- |" + " ---: |" * 5)
    last: dict[str, Worker] = {}
    table, area = [], 0.0
    for megapixels in options.sizes:
        unit = round((megapixels * 1e6 / 20) ** 0.5)
        size, before = (4 * unit, 5 * unit), area
        area = size[0] * size[1] / 1e6
        workers = {}
        for name in names:
            if not before or not too_much(last.get(name), area / before, options.most):
                workers[name] = Worker(build, (name, size))
        take_turns(workers, options.repeats, options.most / 8)
        if not before:
            check(workers)
        for worker in workers.values():
            worker.close()
        for row in rows(workers, area):
            print("| " + " | ".join(row) + " |", flush=True)
            table.append(row)
        last = workers
    write(__file__, HEADER, table)


if __name__ == "__main__":
    main()
