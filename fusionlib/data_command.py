"""``python -m fusionlib data status | prepare | download``: datasets and published weights."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fusionlib.errors import FusionError


def add(commands) -> None:
    """Add ``data`` and its actions to the command line."""
    data = commands.add_parser("data", help="look at, fetch or put in place the datasets")
    actions = data.add_subparsers(required=True, metavar="action")
    status = actions.add_parser("status", help="what is present, what is missing")
    status.set_defaults(command=_status)
    prepare = actions.add_parser("prepare", help="bring an official archive or folder into place")
    prepare.set_defaults(command=_prepare)
    prepare.add_argument("dataset")
    prepare.add_argument("source", type=Path, help="archive, or unpacked folder")
    prepare.add_argument("--skip-orphans", action="store_true", help="skip images without partner")
    download = actions.add_parser(
        "download", help="fetch what can be fetched, say where the rest is"
    )
    download.set_defaults(command=_download)
    download.add_argument(
        "names", nargs="*", help="datasets, or methods with --weights (default: all)"
    )
    download.add_argument(
        "--weights",
        action="store_true",
        help="fetch the published weights of the compared methods instead",
    )
    download.add_argument("--offline", action="store_true", help="use what was already fetched")
    for action in (status, prepare, download):
        action.add_argument("--root", help="default: $FUSIONLIB_DATA or data/images")


def _status(options: argparse.Namespace) -> None:
    import pandas as pd

    from fusionlib import baselines
    from fusionlib.datasets import DRAWN, chosen_root, status
    from fusionlib.sources import SOURCES

    root = chosen_root(options.root)
    if root is None:
        print(f"{DRAWN}: the notebooks use the drawn scenes, whatever datasets are there")
    else:
        table = pd.DataFrame(status(root))
        print(f"{root}\n{table.to_string(index=False)}")
        for name in table.loc[table["pairs"] == 0, "dataset"]:
            print(f"missing: {name}, from {SOURCES[name].page}")
        if not table["pairs"].any():
            print("without any of them the notebooks use synthetic scenes")
    for name, reason in baselines.missing().items():
        print(f"compared method {name} cannot run: {reason}")


def _prepare(options: argparse.Namespace) -> None:
    from fusionlib.datasets import default_root
    from fusionlib.prepare import prepare

    root = default_root(options.root)
    orphans = "skip" if options.skip_orphans else "error"
    count = prepare(options.dataset, options.source, root, on_orphan=orphans)
    print(f"{root / options.dataset}: {count} pairs")


def _download(options: argparse.Namespace) -> None:
    from fusionlib.datasets import REAL, default_root
    from fusionlib.download import download
    from fusionlib.files import REPOSITORY

    def fetch_pairs(name: str) -> None:
        cache = REPOSITORY / "data" / "downloads"
        count = download(name, root, cache=cache, offline=options.offline)
        print(f"{root / name}: {count} pairs")

    if options.weights:
        _for_each(options.names or _with_weights(), lambda name: _fetch_weights(name, options))
    else:
        root = default_root(options.root)
        _for_each(options.names or REAL, fetch_pairs)


def _with_weights() -> list[str]:
    from fusionlib.baselines import METHODS

    return [name for name, method in METHODS.items() if method.weights]


def _fetch_weights(name: str, options: argparse.Namespace) -> None:
    from fusionlib.baselines import find_method
    from fusionlib.baselines.published import fetch_weights

    method = find_method(name)
    if not method.weights:
        raise FusionError("needs no weights")
    for file in method.weights:
        path = fetch_weights(file, offline=options.offline)
        print(f"{path}: as published at github.com/{file.repository} (its terms apply)")


def _for_each(names: Sequence[str], fetch: Callable[[str], None]) -> None:
    """Fetch what can be had, and fail in the end if something could not."""
    failed = []
    for name in names:
        try:
            fetch(name)
        except FusionError as error:
            print(f"{name}: {error}\n", file=sys.stderr)
            failed.append(name)
    if failed:
        raise FusionError(f"not in place: {', '.join(failed)} (reasons above)")
