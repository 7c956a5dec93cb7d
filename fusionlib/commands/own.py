"""Pairs of one's own, for ``train`` and ``evaluate``."""

import argparse
from dataclasses import replace
from pathlib import Path

from fusionlib.commands.options import chosen_levels
from fusionlib.errors import FusionError


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """The option ``--pairs``; see `own_pairs`."""
    about = "your own pairs: two folders, IR_DIR VI_DIR, or a CSV with the columns ir, vi, name"
    parser.add_argument("--pairs", nargs="+", type=Path, metavar="PATH", help=about)


def own_pairs(options: argparse.Namespace, name: str | None = None) -> tuple[str, list]:
    """The pairs of ``--pairs`` and what they are called: as given, or after their folder."""
    from fusionlib.datasets import DATASETS, name_of_folders
    from fusionlib.pairing import pair_folders, read_pairs

    if name in DATASETS:
        raise FusionError(f"--dataset {name} is a dataset of the paper: name --pairs otherwise")
    name = name or name_of_folders(*options.pairs[:2])
    if len(options.pairs) == 1:
        pairs = [replace(pair, dataset=name) for pair in read_pairs(options.pairs[0])]
    elif len(options.pairs) == 2:
        pairs = pair_folders(*options.pairs, name, follow_links=options.follow_links)
    else:
        raise FusionError("--pairs: expected IR_DIR VI_DIR, or one CSV")
    if not pairs:
        raise FusionError(f"--pairs {' '.join(map(str, options.pairs))}: no pairs of images")
    return name, pairs


def given_levels(options: argparse.Namespace, pairs: list) -> dict[str, object]:
    """What was asked for of `chosen_levels`, without the defaults."""
    levels = chosen_levels(options, pairs)
    return {k: v for k, v in levels.items() if v is not None and v is not False and v != "grey"}
