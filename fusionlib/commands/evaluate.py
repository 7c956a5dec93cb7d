"""``fusionlib evaluate``: measure a folder of fused images."""

import argparse
from pathlib import Path

from fusionlib.commands.options import add_flags, add_reading
from fusionlib.errors import FusionError


def add(commands) -> None:
    """Add ``evaluate`` to the command line."""
    evaluate = commands.add_parser("evaluate", help="measure a folder of fused images")
    evaluate.set_defaults(command=_evaluate)
    evaluate.add_argument("fused", type=Path, help="folder with <name>.<ext> of every pair")
    evaluate.add_argument("--dataset", required=True, help="RoadScene, LLVIP, MSRS, M3FD, TNO")
    parts = ["test", "val", "train", "all"]
    evaluate.add_argument("--part", default="test", choices=parts, help="default: test")
    evaluate.add_argument("--method", help="its name in the CSV (default: the folder's)")
    evaluate.add_argument("--metrics", nargs="+", help="default: all of fusionlib.metrics.METRICS")
    evaluate.add_argument("--protocol", default="ours", help="see fusionlib/metrics/protocols.py")
    flags = {"--allow-missing": "mark pairs without image"}
    flags["--allow-unlisted"] = "measure images other than those listed, and mark the table"
    add_flags(evaluate, flags)
    add_reading(evaluate)
    evaluate.add_argument("-o", "--out", type=Path, help="CSV of values; others stay in it")
    evaluate.add_argument("--jobs", type=int, default=-1, help="processes (default: all cores)")
    evaluate.add_argument("--data-root", help="default: $FUSIONLIB_DATA or data/images")


def _evaluate(options: argparse.Namespace) -> None:
    from fusionlib import checks
    from fusionlib.datasets import default_root, find_pairs
    from fusionlib.evaluation import evaluate
    from fusionlib.metrics import METRICS
    from fusionlib.splits import split_pairs

    root, dataset = default_root(options.data_root), options.dataset
    pairs = find_pairs(root, dataset, follow_links=options.follow_links)
    if not pairs:
        raise FusionError(f"{root} has no {dataset}; see `python -m fusionlib data status`")
    part = None if options.part == "all" else options.part
    chosen = split_pairs(pairs, dataset)[part] if part else pairs
    unlisted = checks.compare_with_list(chosen, dataset, part=part)
    if not options.allow_unlisted:
        checks.require_listed(unlisted, dataset)
    method = options.method or options.fused.resolve().name
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
        jobs=options.jobs,
    )
    skipped = [checks.Issue(dataset, *row) for row in frame.attrs["skipped"]]
    used = len(chosen) - len(skipped)
    mark = "*" if unlisted else ""
    print(f"{method}{mark}, {dataset}, {used} of {len(chosen)} pairs, protocol {options.protocol}")
    _print_means(frame, method)
    if unlisted:
        print(f"* not the images of data/splits/{dataset}.csv: {checks.summary(unlisted)}")
    if skipped:
        print(f"left out: {checks.summary(skipped)}")
    if options.out:
        print(f"per image: {options.out}")
        checks.write_issues(options.out.with_suffix(".issues.csv"), [*unlisted, *skipped])


def _print_means(frame, method: str) -> None:
    from fusionlib.metrics import METRICS
    from fusionlib.statistics import summarise

    for row in summarise(frame, ours=method).itertuples():
        title = METRICS[row.metric].title
        if row.mean != row.mean:
            print(f"{title:9s}        – ({row.note.split(';')[0]})")
        else:
            print(f"{title:9s} {row.mean:8.4f}  [{row.low:.4f}, {row.high:.4f}]")
