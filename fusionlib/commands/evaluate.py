"""``fusionlib evaluate``: measure a folder of fused images."""

import argparse
from pathlib import Path

from fusionlib.commands.options import (
    add_flags,
    add_levels,
    add_pairs,
    add_reading,
    counted,
    given_levels,
    own_pairs,
)
from fusionlib.errors import DatasetError, FusionError


def add(commands) -> None:
    """Add ``evaluate`` to the command line."""
    evaluate = commands.add_parser("evaluate", help="measure a folder of fused images")
    evaluate.set_defaults(command=_evaluate)
    evaluate.add_argument("fused", type=Path, help="folder with <name>.<ext> of every pair")
    names = "RoadScene, LLVIP, MSRS, M3FD, TNO, or a folder of your own in the data root"
    evaluate.add_argument("--dataset", help=f"{names}; with --pairs what to call them")
    add_pairs(evaluate)
    parts = ["test", "val", "train", "all"]
    evaluate.add_argument("--part", choices=parts, help="default: test; all of your own pairs")
    evaluate.add_argument("--method", help="its name in the CSV (default: the folder's)")
    evaluate.add_argument("--metrics", nargs="+", help="default: all of fusionlib.metrics.METRICS")
    evaluate.add_argument("--protocol", default="ours", help="see fusionlib/metrics/protocols.py")
    flags = {"--allow-missing": "mark pairs without image"}
    flags["--allow-unlisted"] = "measure images other than those listed, and mark the table"
    add_flags(evaluate, flags)
    add_reading(evaluate)
    add_levels(evaluate)
    evaluate.add_argument("-o", "--out", type=Path, help="CSV of values; others stay in it")
    evaluate.add_argument("--jobs", type=int, default=-1, help="processes (default: all cores)")
    evaluate.add_argument("--data-root", help="default: $FUSIONLIB_DATA or data/images")


def _evaluate(options: argparse.Namespace) -> None:
    from fusionlib import checks
    from fusionlib.evaluation import evaluate
    from fusionlib.metrics import METRICS

    dataset, chosen, unlisted, is_own = _choose(options)
    if unlisted and not options.allow_unlisted:
        raise DatasetError(
            f"{dataset} is not as in data/splits/{dataset}.csv: {checks.summary(unlisted)}. Numbers"
            " of other images cannot be compared; --allow-unlisted measures and marks them."
        )
    method = options.method or _default_method(options.fused, chosen)
    frame = evaluate(
        {method: options.fused},
        {dataset: chosen},
        options.metrics or list(METRICS),
        csv=options.out,
        keep=True,
        protocol=options.protocol,
        missing="mark" if options.allow_missing else "error",
        on_bad=options.on_bad,
        follow_links=options.follow_links,
        reading=given_levels(options, chosen),
        jobs=options.jobs,
    )
    skipped = [checks.Issue(dataset, *row) for row in frame.attrs["skipped"]]
    used = len(chosen) - len(skipped)
    mark = "*" if unlisted else ""
    pairs = f"{used} of {counted(len(chosen), 'pair')}"
    print(f"{method}{mark}, {dataset}, {pairs}, protocol {options.protocol}")
    if is_own:
        print("your own pairs, so no list says which of them are for tests: all are measured")
    _print_means(frame, method)
    if unlisted:
        print(f"* not the images of data/splits/{dataset}.csv: {checks.summary(unlisted)}")
    if skipped:
        print(f"left out: {checks.summary(skipped)}")
    if options.out:
        print(f"per image: {options.out}")
        checks.write_issues(options.out.with_suffix(".issues.csv"), [*unlisted, *skipped])


def _choose(options: argparse.Namespace) -> tuple[str, list, list, bool]:
    """Dataset, the pairs to measure, what is not as listed, and whether no list exists."""
    from fusionlib import checks
    from fusionlib.datasets import DATASETS, default_root, require_pairs
    from fusionlib.splits import split_pairs

    dataset = options.dataset
    if options.pairs:
        dataset, pairs = own_pairs(options, dataset)
    elif dataset:
        root = default_root(options.data_root)
        pairs = require_pairs(root, dataset, follow_links=options.follow_links)
    else:
        raise FusionError("which pairs? Give --dataset NAME, or --pairs IR_DIR VI_DIR")
    if dataset not in DATASETS:
        if options.part not in (None, "all"):
            raise FusionError(f"--part {options.part}: no list divides {dataset}; all are measured")
        return dataset, pairs, [], True
    part = None if options.part == "all" else options.part or "test"
    chosen = split_pairs(pairs, dataset)[part] if part else pairs
    return dataset, chosen, checks.compare_with_list(chosen, dataset, part=part), False


def _default_method(folder: Path, pairs: list) -> str:
    """The name of the last folder that is not named after a dataset, or what holds the sources."""
    from fusionlib.datasets import DATASETS

    taken = {*DATASETS, *(pair.dataset for pair in pairs)}
    taken |= {pair.ir.absolute().parent.parent.name for pair in pairs}
    for name in reversed(folder.absolute().parts[1:]):
        if name not in taken:
            return name
    raise FusionError(f"{folder}: what is the method called? Give --method NAME")


def _print_means(frame, method: str) -> None:
    from fusionlib.metrics import METRICS
    from fusionlib.statistics import summarise

    for row in summarise(frame, ours=method).itertuples():
        title = METRICS[row.metric].title
        if row.mean != row.mean:
            print(f"{title:9s}        – ({row.note.split(';')[0]})")
        else:
            interval = f"  [{row.low:.4f}, {row.high:.4f}]" if row.n > 1 else ""
            print(f"{title:9s} {row.mean:8.4f}{interval}")
