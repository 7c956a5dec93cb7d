"""Seconds per megapixel and peak memory of fusing, beside other networks and plainer ways.

    python benchmarks/inference.py                # prints the rows and writes the CSV beside this
    python benchmarks/inference.py --sizes 0.08 0.31 -o mine.csv
    python benchmarks/inference.py --before ../old    # with a row for another checkout's ours
    python benchmarks/inference.py --device cuda --sizes 0.3072 1.3 5    # memory: the GPU's
    python benchmarks/inference.py --docs         # only the table of docs/methods.md, from the CSV

Each row has a process of its own; within a size they take turns, medians are compared. ``plain``:
the network as it stands, eager, fp32. ``whole``: the same in channels_last, without BatchNorm.
``ours``: what `fusionlib.inference.load_fuser` gives; ``ours, bf16``: the same with ``--precision
bf16``. All with the image encoder's time, and all of ours but ``plain`` with memory kept, as the
command line does. A row is left out of a size for
which, going by the size before, it would take too much memory or time. Peak memory includes what
Python and PyTorch take before anything is fused (``idle``).
"""

import argparse
import csv
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from fusionlib import baselines, inference
from fusionlib.baselines.method import NetworkMethod
from fusionlib.tiles import without_batch_norm
from fusionlib.versions import processor

Array = np.ndarray
DOCS = Path(__file__).resolve().parent.parent / "docs" / "methods.md"
MARKS = "<!-- cost -->\n", "<!-- end of cost -->\n"
HEADER = ("megapixels", "method", "seconds", "s_per_mp", "times_ours", "peak_gb", "idle_gb")
OURS = ("ours", "plain", "whole", "ours, bf16")
BEFORE = "ours, before"
LEVEL = 1 / 255


class Row:
    """A call in a process of its own, with its own allocator and peak memory.

    Attributes:
        seconds: of each repeat.
        idle: peak memory before the first repeat, GB.
        peak: and now.
        result: of the latest repeat.
    """

    def __init__(self, build: Callable[..., Callable], *arguments, checkout: Path | None = None):
        self.seconds: list[float] = []
        self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        sys.path[:0] = [str(checkout)] if checkout else []  # the new process takes it over
        self.idle = self._process.submit(_build, build, arguments).result()
        del sys.path[: bool(checkout)]

    def run(self) -> None:
        """Repeat once more."""
        seconds, self.peak, self.result = self._process.submit(_timed).result()
        self.seconds.append(seconds)

    def close(self) -> None:
        """End the process."""
        self._process.shutdown()

    @property
    def median(self) -> float:
        """Median seconds of the repeats."""
        return statistics.median(self.seconds)


def _build(build: Callable[..., Callable], arguments: tuple) -> float:
    global call
    call = build(*arguments)
    return _peak()


def _timed() -> tuple[float, float, object]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, _peak(), result


def _peak() -> float:
    """Largest resident size of this process so far, or what PyTorch took of a GPU, GB."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e9
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss this does not count the process that started it
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def take_turns(rows: dict[str, Row], repeats: int, most: float) -> None:
    """Run them in turn, so that a disturbance meets all; ``most`` seconds are enough for one."""
    for _ in range(repeats):
        for row in rows.values():
            if not row.seconds or sum(row.seconds) + row.median < most:
                row.run()
    for row in rows.values():
        row.close()


def write(out: Path, header: tuple[str, ...], lines: list[tuple], device: str = "cpu") -> None:
    """Write a table with the machine in its last column; rows of other machines stay."""
    machine = processor(torch.device(device))
    machine += f", {torch.get_num_threads()} threads" if device == "cpu" else ""
    others = []
    if out.exists():
        with out.open(newline="", encoding="utf-8") as file:
            others = [row for row in list(csv.reader(file))[1:] if row[-1] != machine]
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows([(*header, "machine"), *others, *((*line, machine) for line in lines)])


def images(size: tuple[int, int]) -> tuple[Array, Array]:
    """Infrared (H, W) and visible (H, W, 3), in [0, 1]."""
    rng = np.random.default_rng(0)
    return rng.random(size, dtype=np.float32), rng.random((*size, 3), dtype=np.float32)


def build(name: str, size: tuple[int, int], device: str) -> Callable[[], Array]:
    """A call that fuses a pair of this size; run once on a small one."""
    if name in (*OURS, BEFORE):
        if name != "plain":
            inference.reuse_memory()
        precision = "bf16" if name == "ours, bf16" else "fp32"
        fuse = fuser = inference.load_fuser(device=device, precision=precision)
        if name in ("plain", "whole"):
            fuse = whole_image(fuser, name)
    elif isinstance(method := baselines.METHODS[name], NetworkMethod):
        fuse = loaded(method, device)
    else:
        fuse = method.fuse
    fuse(*images((64, 64)))
    pair = images(size)
    return lambda: fuse(*pair)


def loaded(method: NetworkMethod, device: str) -> Callable[[Array, Array], Array]:
    """A published method whose network is read once, as ours is, and computes on a device."""
    net = method.network().to(device)
    net.register_forward_pre_hook(lambda _, images: tuple(x.to(device) for x in images))
    net.register_forward_hook(lambda _, images, fused: fused.cpu())

    @torch.inference_mode()
    def fuse(ir: Array, vi: Array) -> Array:
        return method.apply(net, *((255 * x).astype(np.uint8) for x in (ir, vi)))

    return fuse


def whole_image(fuser: inference.Fuser, name: str) -> Callable[[Array, Array], Array]:
    """`FusionNet.forward` itself."""
    net, layout = fuser.weights.net, torch.contiguous_format
    if name == "whole":
        net, layout = without_batch_norm(net), torch.channels_last
    net = net.to(memory_format=layout)

    @torch.inference_mode()
    def fuse(ir: Array, vi: Array) -> Array:
        y, rgb = inference.to_tensors(ir, vi, fuser.device)
        features = fuser.encoder(y), fuser.encoder(rgb)
        rgb = rgb.contiguous(memory_format=layout)
        return (net(2 * y - 1, 2 * rgb - 1, *features)[0, 0].cpu().numpy() + 1) / 2

    return fuse


def fits(row: Row | None, growth: float, most: float, device: str) -> bool:
    """Whether an image ``growth`` times as large as the last leaves memory and time."""
    if row is None:
        return False
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    if device != "cpu":
        memory = torch.cuda.get_device_properties(device).total_memory / 1e9
    return row.idle + (row.peak - row.idle) * growth < 0.7 * memory and row.median * growth < most


def check(rows: dict[str, Row]) -> None:
    """All ways to run our network must give the same image, bf16 nearly."""
    for name in OURS[1:]:
        share = (np.abs(rows["ours"].result - rows[name].result) < LEVEL).mean()
        assert share >= (0.99 if name == "ours, bf16" else 1), (name, share)


def cost_table(rows: list[dict[str, str]]) -> str:
    """Time and memory of each method at the size nearest to 640×480, a Markdown table a machine."""
    lines = []
    for machine in dict.fromkeys(row["machine"] for row in rows):
        mine = [row for row in rows if row["machine"] == machine and row["method"] not in OURS[1:3]]
        nearest = min({r["megapixels"] for r in mine}, key=lambda size: abs(float(size) - 0.3072))
        lines += [f"{machine}, {nearest} megapixels:", ""]
        lines += ["| | seconds | times ours | peak memory, GB |", "|---|--:|--:|--:|"]
        lines += [
            f"| {row['method']} | {row['seconds']} | {row['times_ours']} | {row['peak_gb']} |"
            for row in mine
            if row["megapixels"] == nearest
        ]
        lines.append("")
    return "\n".join(lines)


def write_docs(table: Path) -> None:
    """Put the table between its marks in ``docs/methods.md``."""
    with table.open(newline="", encoding="utf-8") as file:
        text = cost_table(list(csv.DictReader(file)))
    page = DOCS.read_text(encoding="utf-8")
    before, after = page.index(MARKS[0]) + len(MARKS[0]), page.index(MARKS[1])
    DOCS.write_text(f"{page[:before]}{text}{page[after:]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=float, default=[0.08, 0.3072, 1.3, 5])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--most", type=float, default=100, help="seconds one call may take")
    parser.add_argument("--device", default="cpu", help="cpu, cuda")
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--docs", action="store_true", help="write the table of docs/methods.md")
    options = parser.parse_args()
    if options.docs:
        return write_docs(options.out)
    absent = baselines.missing()
    for name, reason in absent.items():
        print(f"{name} is left out: {reason}")
    names = [
        *OURS,
        *[BEFORE] * bool(options.before),
        *(name for name in baselines.METHODS if name not in absent),
    ]
    checkouts = {BEFORE: options.before}
    limits = options.most, options.device
    last: dict[str, Row] = {}
    lines, area = [], 0.0
    print(*HEADER)
    for megapixels in options.sizes:
        unit = round((megapixels * 1e6 / 12) ** 0.5)  # 4:3
        before, area = area, unit**2 * 12 / 1e6
        chosen = [n for n in names if not before or fits(last.get(n), area / before, *limits)]
        size = 3 * unit, 4 * unit
        rows = {
            name: Row(build, name, size, options.device, checkout=checkouts.get(name))
            for name in chosen
        }
        take_turns(rows, options.repeats, options.most / 8)
        if not before:
            check(rows)
        for name, row in rows.items():
            numbers = row.median, row.median / area, row.median / rows["ours"].median
            shown = (f"{area:.2f}", name, *(f"{x:.3f}" for x in (*numbers, row.peak, row.idle)))
            print(*shown, flush=True)
            lines.append(shown)
        last = rows
    write(options.out, HEADER, lines, options.device)


if __name__ == "__main__":
    main()
