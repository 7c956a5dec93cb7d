"""``python -m fusionlib data status | prepare | download``: datasets and published weights."""

import argparse
import os
import sys
from pathlib import Path

from fusionlib.commands.options import counted
from fusionlib.errors import FusionError


def add(commands) -> None:
    """Add ``data`` and its actions to the command line."""
    data = commands.add_parser("data", help="look at, fetch or put in place the datasets")
    actions = data.add_subparsers(required=True, metavar="action")
    status = actions.add_parser("status", help="what is present, what is missing")
    prepare = actions.add_parser("prepare", help="bring an official zip or folder into place")
    prepare.add_argument("dataset")
    prepare.add_argument("source", type=Path, help="zip, or unpacked folder")
    prepare.add_argument("--skip-orphans", action="store_true", help="skip images without partner")
    download = actions.add_parser("download", help="fetch what can be, say where the rest is")
    download.add_argument("names", nargs="*", help="datasets, or methods (default: all)")
    download.add_argument("--weights", action="store_true", help="published weights of methods")
    download.add_argument("--results", action="store_true", help="images that others published")
    download.add_argument("--offline", action="store_true", help="use what was already fetched")
    for action, command in ((status, _status), (prepare, _prepare), (download, _download)):
        action.set_defaults(command=command)
        action.add_argument("--root", help="default: $FUSIONLIB_DATA or data/images")


def _status(options: argparse.Namespace) -> None:
    import pandas as pd

    from fusionlib import baselines
    from fusionlib.baselines.published import weights_root
    from fusionlib.datasets import DATASETS, DRAWN, REAL, chosen_root, own_datasets

    if (root := chosen_root(options.root)) is None:
        print(f"{DRAWN}: the notebooks use the drawn scenes, whatever datasets are there")
    else:
        table = pd.DataFrame([_counts(root, name) for name in REAL])
        print(f"{root}\n{table.to_string(index=False)}")
        if "drawn" in set(table["split"]):
            print("drawn: not the pairs of data/splits/, so divided by the rule in docs/data.md")
        for name in table.loc[table["pairs"] == 0, "dataset"]:
            print(f"missing: {name}, from {DATASETS[name].page}")
        if own := own_datasets(root):
            print(f"your own: {', '.join(own)}; train and evaluate take them with --dataset")
        if not table["pairs"].any():
            print("without any of them the notebooks use synthetic scenes")
    for name, reason in (missing := baselines.missing()).items():
        if not any(file.shipped for file in baselines.METHODS[name].weights):
            reason = reason.partition(". ")[0].replace(f"{weights_root()}{os.sep}", "")
        print(f"compared method {name} cannot run: {reason}")
    if missing:
        print(f"fusionlib data download --weights fetches the files to {weights_root()}")


def _counts(root: Path, name: str) -> dict[str, object]:
    """Pairs that are present, how they are divided, what the list has more, what the paper had."""
    from fusionlib.datasets import DATASETS, find_pairs
    from fusionlib.splits import read_split, split_pairs, split_rule

    pairs = find_pairs(root, name)
    parts = split_pairs(pairs, name)
    train, val, test = (len(parts[part]) for part in ("train", "val", "test"))
    used = {listed for listed, part in read_split(name).items() if part}
    return {
        "dataset": name,
        "pairs": len(pairs),
        "train": train + val,
        "of it val": val,
        "test": test,
        "missing": len(used - {pair.name for pair in pairs}),
        "split": split_rule(parts, name) if pairs else "none",
        "train (paper)": DATASETS[name].train,
        "test (paper)": DATASETS[name].test,
    }


def _prepare(options: argparse.Namespace) -> None:
    from fusionlib.datasets import default_root
    from fusionlib.download import prepare

    root = default_root(options.root)
    count = prepare(options.dataset, options.source, root, skip_orphans=options.skip_orphans)
    print(f"{root / options.dataset}: {counted(count, 'pair')}")


def _download(options: argparse.Namespace) -> None:
    """Fetch what can be had, and fail in the end if something could not."""
    from fusionlib.baselines import METHODS
    from fusionlib.baselines.results import RELATED
    from fusionlib.datasets import REAL, default_root

    if options.weights:
        fetch, every = _fetch_weights, [name for name in METHODS if METHODS[name].weights]
    elif options.results:
        fetch, every = _fetch_results, RELATED
    else:
        options.root, fetch, every = default_root(options.root), _fetch_pairs, REAL
    failed = []
    for name in options.names or every:
        try:
            print(fetch(name, options))
        except FusionError as error:
            print(f"{name}: {error}\n", file=sys.stderr)
            failed.append(name)
    if failed:
        raise FusionError(f"not in place: {', '.join(failed)} (reasons above)")


def _fetch_pairs(name: str, options: argparse.Namespace) -> str:
    from fusionlib.download import download

    count = download(name, options.root, offline=options.offline)
    return f"{options.root / name}: {counted(count, 'pair')}"


def _fetch_weights(name: str, options: argparse.Namespace) -> str:
    from fusionlib.baselines import find_method

    if not (files := find_method(name).weights):
        raise FusionError("needs no weights")
    paths = [(file.fetch(offline=options.offline), file.repository) for file in files]
    return "\n".join(f"{p}: as published at github.com/{r} (its terms apply)" for p, r in paths)


def _fetch_results(name: str, options: argparse.Namespace) -> str:
    from fusionlib.baselines.results import RELATED, fetch_results, results_root

    count = fetch_results(name, offline=options.offline)
    images = counted(count, "image")
    return f"{results_root() / name}: {images}, {RELATED[name]}; they belong to their authors"
