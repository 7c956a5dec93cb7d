"""Seconds per crop of the `cpu` recipe, beside a plain loop over the same network and loss.

    python benchmarks/training.py                 # Markdown to the terminal, CSV beside this file

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
from results import show, write
from workers import Worker, take_turns

from fusionlib import inference
from fusionlib.datasets import SCENES, SYNTHETIC, find_pairs
from fusionlib.encoder import EMBEDDED, load_encoder
from fusionlib.network import FusionNet
from fusionlib.recipe import PRESETS
from fusionlib.splits import split_pairs
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
    inference.reuse_memory()
    pairs = split_pairs(find_pairs(SCENES, SYNTHETIC), SYNTHETIC)["train"]
    config = dataclasses.replace(PRESETS["cpu"], steps=10**6, validate_every=10**6)  # without end
    trainer = Trainer(config, load_encoder(EMBEDDED), pairs, [], folder / "train")

    def loop() -> None:
        trainer.run(until=trainer.step + steps, progress=False)

    loop()
    return loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3, help="of each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workers = {
            "plain": Worker(plain, (options.steps,)),
            "ours": Worker(ours, (options.steps, Path(folder))),
        }
        take_turns(workers, options.repeats, most=120)
        for worker in workers.values():
            worker.close()
    crops = options.steps * PRESETS["cpu"].batch
    rows = [
        (
            name,
            f"{worker.median / crops:.3f}",
            f"{worker.median / workers['ours'].median:.2f}",
            f"{worker.peak / 1e9:.2f}",
        )
        for name, worker in workers.items()
    ]
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}\n")
    show(HEADER, rows)
    write(__file__, HEADER, rows)


if __name__ == "__main__":
    main()
