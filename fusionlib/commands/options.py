"""What several commands share: types of numbers, options, the check of a device."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from fusionlib.errors import FusionError, ImageError, PairError


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


def _level(text: str) -> float | str:
    return text if text == "auto" else float(text)


_level.__name__ = "number"  # in argparse's messages
PRECISIONS = ["fp32", "bf16"]
RANGES = ("--ir-range", "--vi-range")
LEVELS = ("resize", "ir_range", "vi_range", "ir_rgb", "ir_invert", "frame")  # fused.json has them


def counted(number: int, noun: str) -> str:
    """``1 pair``, ``2 pairs``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def add_flags(parser: argparse.ArgumentParser, flags: dict[str, str]) -> None:
    """Options without a value: name → help."""
    for name, about in flags.items():
        parser.add_argument(name, action="store_true", help=about)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The options ``--on-bad`` and ``--follow-links``."""
    bad = "a pair that cannot be read: stop (default), or leave it out and report it"
    parser.add_argument("--on-bad", choices=["error", "skip"], default="error", help=bad)
    add_flags(parser, {"--follow-links": "read images that are links out of their folder"})


def add_levels(parser) -> None:
    """How images are read: the options of `fusionlib.datasets.load_pair`."""
    abouts = (
        "levels that become black and white, as raw counts need; auto finds one range for all",
        "the same for visible images of 10 to 16 bits",
    )
    for option, about in zip(RANGES, abouts, strict=True):
        metavar = ("LOW", "HIGH|auto")
        parser.add_argument(option, nargs=2, type=_level, metavar=metavar, help=about)
    add_flags(parser, {"--ir-invert": "for black-hot infrared, where dark is warm"})
    colours = "false-colour infrared: turn its palette back into heat, or take its luma"
    parser.add_argument("--ir-rgb", choices=["palette", "luma"], default="grey", help=colours)
    frame = "picture of files that hold several (default: the first of MPO)"
    parser.add_argument("--frame", type=SEED, metavar="N", help=frame)
    parser.add_argument("--max-pixels", type=COUNT, metavar="N", help="default: 64 million")
    bicubic = "scale infrared of another size; the pair must be registered all the same"
    parser.add_argument("--resize", choices=["ir-to-vi"], help=bicubic)


def spread_auto(arguments: Sequence[str]) -> list[str]:
    """``--ir-range auto`` → ``--ir-range auto auto``: argparse wants one number of values."""
    spread: list[str] = []
    for word in arguments:
        option, _, value = word.partition("=")
        spread += [option, value] if option in RANGES and value == "auto" else [word]
        if spread[-1] == "auto" and spread[-2:-1] and spread[-2] in RANGES:
            spread.append("auto")
    return spread


def chosen_levels(options: argparse.Namespace, pairs: Sequence) -> dict[str, object]:
    """Options of `add_levels` as those of `fusionlib.datasets.load_pair`; finds ranges.

    A range that is to be found is one for all pairs, and is said on stderr.
    """
    from fusionlib.decoding import FrameWarning
    from fusionlib.levels import find_range

    chosen = {name: getattr(options, name) for name in LEVELS}
    limit = {"max_pixels": options.max_pixels} if options.max_pixels else {}
    for side in ("ir", "vi"):
        if not (given := chosen[f"{side}_range"]):
            continue
        if "auto" not in given:
            chosen[f"{side}_range"] = tuple(given)
            continue
        if set(given) != {"auto"}:
            raise FusionError(f"--{side}-range {' '.join(map(str, given))}: LOW HIGH, or auto")
        paths = [getattr(pair, side) for pair in pairs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FrameWarning)  # said where the pairs are read
            if options.on_bad == "skip":
                paths = [path for path in paths if is_readable(path, options.frame, **limit)]
            low, high = chosen[f"{side}_range"] = find_range(paths, side, options.frame, **limit)
        print(f"found in {len(paths)} images: --{side}-range {low:g} {high:g}", file=sys.stderr)
    return chosen | limit


def is_readable(path: Path, frame: int | None, **limit: int) -> bool:
    """Whether an image can be decoded."""
    from fusionlib.decoding import decode

    try:
        decode(path, frame, **limit)
    except ImageError:
        return False
    return True


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """The option ``--pairs``; see `own_pairs`."""
    about = "your own pairs: two folders, IR_DIR VI_DIR, or a CSV with the columns ir, vi, name"
    parser.add_argument("--pairs", nargs="+", type=Path, metavar="PATH", help=about)


def own_pairs(options: argparse.Namespace, name: str | None = None) -> tuple[str, list]:
    """The pairs of ``--pairs`` and what they are called: as given, or after their folder."""
    from fusionlib.datasets import DATASETS, name_of_folders

    if name in DATASETS:
        raise FusionError(f"--dataset {name} is a dataset of the paper: name --pairs otherwise")
    if len(options.pairs) > 2:
        raise FusionError("--pairs: expected IR_DIR VI_DIR, or one CSV")
    name = name or name_of_folders(*options.pairs)
    return name, pairs_of(options.pairs, name, follow_links=options.follow_links)


def pairs_of(paths: Sequence[Path], name: str = "", **pairing: object) -> list:
    """Pairs of two folders, see `fusionlib.pairing.pair_folders`, or of a list; at least one."""
    from fusionlib.images import SUFFIXES
    from fusionlib.pairing import pair_folders, read_pairs

    found = pair_folders(*paths, name, **pairing) if paths[1:] else read_pairs(*paths, name)
    if not found:
        left_out = pairing.get("left_out")
        files = f"; left out: {counted(len(left_out), 'file')}" if left_out else ""
        source = " and ".join(map(str, paths))
        raise PairError(f"{source}: no pairs of images ({', '.join(SUFFIXES)}){files}")
    return found


def given_levels(options: argparse.Namespace, pairs: list) -> dict[str, object]:
    """What was asked for of `chosen_levels`, without the defaults."""
    levels = chosen_levels(options, pairs)
    return {k: v for k, v in levels.items() if v is not None and v is not False and v != "grey"}


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
