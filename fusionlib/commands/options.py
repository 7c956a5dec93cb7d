"""What several commands share: types of numbers, options, the check of a device."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from fusionlib.errors import FusionError


def number_type(kind: type, accepted: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """An argparse type; its name is part of argparse's message."""

    def number(text: str) -> float:
        value = kind(text)
        if not fits(value):  # nor does NaN
            raise ValueError
        return value

    number.__name__ = f"number {accepted}"
    return number


COUNT = number_type(int, "above 0", lambda x: x > 0)
POSITIVE = number_type(float, "above 0", lambda x: 0 < x < float("inf"))
SHARE = number_type(float, "from 0 to 1", lambda x: 0 <= x <= 1)
DECAY = number_type(float, "from 0 to below 1", lambda x: 0 <= x < 1)
SEED = number_type(int, "from 0", lambda x: x >= 0)
PRECISIONS = ["fp32", "bf16"]


def add_flags(parser: argparse.ArgumentParser, flags: dict[str, str]) -> None:
    """Options without a value: name → help."""
    for name, about in flags.items():
        parser.add_argument(name, action="store_true", help=about)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The options ``--on-bad`` and ``--follow-links``."""
    bad = "a pair that cannot be read: stop (default), or leave it out and report it"
    parser.add_argument("--on-bad", choices=["error", "skip"], default="error", help=bad)
    add_flags(parser, {"--follow-links": "read images that are links out of their folder"})


def add_levels(parser: argparse.ArgumentParser) -> None:
    """How sources are read; see `reading_options`."""
    parser.add_argument("--resize", choices=["ir-to-vi"], help="scale infrared of another size")
    for side, what in (("ir", "infrared"), ("vi", "visible")):
        levels = f"levels of a 16-bit or float {what} image that become black and white"
        parser.add_argument(
            f"--{side}-range", nargs=2, type=float, metavar=("LOW", "HIGH"), help=levels
        )
    parser.add_argument("--ir-rgb", choices=["luma", "palette"], help="of a colour infrared image")
    add_flags(parser, {"--ir-invert": "infrared is black-hot"})


def reading_options(options: argparse.Namespace) -> dict:
    """What `fusionlib.datasets.load_pair` takes, of the options that were given."""
    names = ("resize", "ir_range", "vi_range", "ir_rgb", "ir_invert")
    given = {name: value for name in names if (value := getattr(options, name))}
    return {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """The option ``--pairs``; see `own_pairs`."""
    about = "your own pairs: two folders, IR_DIR VI_DIR, or a CSV with the columns ir, vi, name"
    parser.add_argument("--pairs", nargs="+", type=Path, metavar="PATH", help=about)


def own_pairs(options: argparse.Namespace, name: str | None = None) -> tuple[str, list]:
    """The pairs of ``--pairs`` and what they are called: as given, or after their folder."""
    from dataclasses import replace

    from fusionlib.datasets import DATASETS, name_of_folders
    from fusionlib.pairing import pair_folders, read_pairs

    if name in DATASETS:
        raise FusionError(f"--dataset {name} is a dataset of the paper: name --pairs otherwise")
    if len(options.pairs) > 2:
        raise FusionError("--pairs: expected IR_DIR VI_DIR, or one CSV")
    name = name or name_of_folders(*options.pairs)
    if len(options.pairs) == 1:
        pairs = [replace(pair, dataset=name) for pair in read_pairs(options.pairs[0])]
    else:
        links = getattr(options, "follow_links", False)
        pairs = pair_folders(*options.pairs, name, follow_links=links)
    if not pairs:
        raise FusionError(f"--pairs {' '.join(map(str, options.pairs))}: no images")
    return name, pairs


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """The option ``--data-root``."""
    root = "folder, or 'synthetic' for the drawn scenes (default: $FUSIONLIB_DATA or data/images)"
    parser.add_argument("--data-root", help=root)  # no Path: ./synthetic is a folder


def add_model(parser: argparse.ArgumentParser, default: str) -> None:
    """The options ``--encoder`` and ``--device``."""
    parser.add_argument(
        "--encoder",
        help=f"'ViT-B-32/openai' or another open_clip model/pretrained, 'model/path/to/file', "
        f"'local-dir:path', or 'embedded' (EfficientNet-Lite0, ImageNet; default: {default})",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps")


def check_device(name: str):
    """The device, or an error that says why not."""
    import torch

    rank = os.environ.get("LOCAL_RANK")  # set by torchrun: each process has a GPU of its own
    name = f"cuda:{rank}" if name == "cuda" and rank else name
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise FusionError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return torch.device(name)
