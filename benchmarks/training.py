"""Seconds per crop of the `cpu` recipe, beside a plain loop over the same network and loss.

    python benchmarks/training.py                 # prints the rows and writes the CSV beside this
    python benchmarks/training.py --device cuda --steps 20    # recipe `paper`, with --compile

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
from fusionlib.recipe import PRESETS, TrainConfig
from fusionlib.splits import drawn_scenes
from fusionlib.training import Trainer, forward_loss

HEADER = ("loop", "s_per_crop", "times_ours", "peak_gb")


def preset(device: str) -> TrainConfig:
    """The recipe for a device, without end."""
    config = PRESETS["cpu" if device == "cpu" else "paper"]
    return dataclasses.replace(config, steps=10**6, validate_every=10**6)


def plain(steps: int, device: str) -> Callable[[], None]:
    """A loop as one would write it down first."""
    encoder = load_encoder(EMBEDDED).to(device)
    config = dataclasses.replace(preset(device), precision="fp32")
    net = FusionNet(dataclasses.replace(config.network, embed=encoder.embed)).train().to(device)
    optimizer = torch.optim.Adam(net.parameters())
    rng = np.random.default_rng(0)
    shape = (config.batch, 4, config.crop, config.crop)
    crops = torch.from_numpy(rng.random(shape, dtype=np.float32)).to(device)
    ir, vi = crops.split([1, 3], dim=1)

    def loop() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            forward_loss(net, encoder, ir, vi, config).loss.backward()
            optimizer.step()
        next(net.parameters()).detach().sum().item()  # waits for a GPU

    loop()
    return loop


def ours(steps: int, device: str, folder: Path) -> Callable[[], None]:
    """`Trainer`, as the command line runs it."""
    reuse_memory()
    pairs = 2 * drawn_scenes()["train"]  # enough for a batch
    given = preset(device), load_encoder(EMBEDDED), pairs, [], folder / "train", device
    trainer = Trainer(*given, compiled=device != "cpu")

    def loop() -> None:
        trainer.run(until=trainer.step + steps, progress=False)

    loop()
    return loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3, help="of each repeat")
    parser.add_argument("--device", default="cpu", help="cpu, cuda")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("-o", "--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = options.steps, options.device
        rows = {"plain": Row(plain, *given), "ours": Row(ours, *given, Path(folder))}
        take_turns(rows, options.repeats, most=120)
    crops = options.steps * preset(options.device).batch
    lines = []
    print(*HEADER)
    for name, row in rows.items():
        numbers = row.median / crops, row.median / rows["ours"].median, row.peak
        lines.append((name, *(f"{x:.3f}" for x in numbers)))
        print(*lines[-1])
    write(options.out, HEADER, lines, options.device)


if __name__ == "__main__":
    main()
