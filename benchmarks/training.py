"""Seconds per crop of the `cpu` recipe, beside a plain loop over the same network and loss.

    python benchmarks/training.py                 # prints the rows and writes the CSV beside this

``plain``: fp32, default layout of tensors, default allocator, crops already in memory. ``ours``: a
`Trainer` with the preset's settings and memory kept, crops drawn and checkpoints written. On the
synthetic scenes; each in a process of its own, in turn; medians.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from inference import Row, take_turns, write

from fusionlib.encoder import EMBEDDED, load_encoder
from fusionlib.inference import reuse_memory
from fusionlib.network import FusionNet
from fusionlib.recipe import PRESETS
from fusionlib.splits import drawn_scenes
from fusionlib.training import Trainer, forward_loss

HEADER = ("loop", "s_per_crop", "times_ours", "peak_gb")


def plain(steps: int) -> Callable[[], None]:
    """A loop as one would write it down first."""
    encoder = load_encoder(EMBEDDED)
    config = dataclasses.replace(PRESETS["cpu"], precision="fp32")
    net = FusionNet(dataclasses.replace(config.network, embed=encoder.embed)).train()
    optimizer = torch.optim.Adam(net.parameters())
    rng = np.random.default_rng(0)
    shape = (config.batch, 4, config.crop, config.crop)
    ir, vi = torch.from_numpy(rng.random(shape, dtype=np.float32)).split([1, 3], dim=1)

    def loop() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            forward_loss(net, encoder, ir, vi, config).loss.backward()
            optimizer.step()

    loop()
    return loop


def ours(steps: int, folder: Path) -> Callable[[], None]:
    """`Trainer`, as the command line runs it."""
    reuse_memory()
    config = dataclasses.replace(PRESETS["cpu"], steps=10**6, validate_every=10**6)  # without end
    pairs = drawn_scenes()["train"]
    trainer = Trainer(config, load_encoder(EMBEDDED), pairs, [], folder / "train")

    def loop() -> None:
        trainer.run(until=trainer.step + steps, progress=False)

    loop()
    return loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3, help="of each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = {"plain": Row(plain, options.steps), "ours": Row(ours, options.steps, Path(folder))}
        take_turns(rows, options.repeats, most=120)
    crops = options.steps * PRESETS["cpu"].batch
    lines = []
    print(*HEADER)
    for name, row in rows.items():
        numbers = row.median / crops, row.median / rows["ours"].median, row.peak
        lines.append((name, *(f"{x:.3f}" for x in numbers)))
        print(*lines[-1])
    write(options.out, HEADER, lines)


if __name__ == "__main__":
    main()
