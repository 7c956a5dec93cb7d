"""Command line: ``fusionlib fuse | train | evaluate | data``, or ``python -m fusionlib``."""

import argparse
import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from fusionlib import __version__, data_command
from fusionlib.errors import FusionError, PairError
from fusionlib.files import write_atomically


def _number(kind: type, accepted: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """An argparse type; its name is part of argparse's message."""

    def number(text: str) -> float:
        value = kind(text)
        if not fits(value):  # nor does NaN
            raise ValueError
        return value

    number.__name__ = f"number {accepted}"
    return number


COUNT = _number(int, "above 0", lambda x: x > 0)
POSITIVE = _number(float, "above 0", lambda x: 0 < x < float("inf"))
SHARE = _number(float, "from 0 to 1", lambda x: 0 <= x <= 1)
DECAY = _number(float, "from 0 to below 1", lambda x: 0 <= x < 1)
SEED = _number(int, "from 0", lambda x: x >= 0)
PRECISIONS = ["fp32", "bf16"]

# fields of `recipe.TrainConfig` that options of `train` set
RECIPE = {
    "steps": (COUNT, "instead of the preset's"),
    "batch": (COUNT, "crops a step, instead of the preset's"),
    "crop": (COUNT, "side of a crop, pixels"),
    "lr_peak": (POSITIVE, "learning rate after warm-up"),
    "average": (DECAY, "decay of the moving average of the weights"),
    "precision": (str, "of the forward pass"),
    "freeze_norm": (SHARE, "share of the steps BatchNorm learns in"),
    "loss_weight": (POSITIVE, "λ of equation 6, the weight of the intensity term (default: 0.2)"),
    "seed": (SEED, "of weights and crops (default: 0)"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0, 2 for an error that is explained, 130)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["paper"]:  # its name before it had a house of its own
        return importlib.import_module("paper.__main__").main(arguments[1:])
    return run_command(_parser(), arguments)


def run_command(parser: argparse.ArgumentParser, arguments: list[str] | None) -> int:
    """Parse, run ``options.command``, and turn what went wrong into an exit status."""
    options = parser.parse_args(arguments)
    try:
        options.command(options)
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fusionlib",
        description="Infrared and visible image fusion after MGFusion (Yang et al., 2024).",
    )
    parser.add_argument("--version", action="version", version=f"fusionlib {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in (_add_fuse, _add_evaluate, _add_train, data_command.add):
        add(commands)
    return parser


def _add_fuse(commands) -> None:
    fuse = commands.add_parser("fuse", help="fuse two files or two folders")
    fuse.set_defaults(command=_fuse)
    fuse.add_argument("ir", type=Path, help="infrared image, or a folder of them")
    fuse.add_argument("vi", type=Path, help="visible image, or a folder with the same names")
    fuse.add_argument("-o", "--out", type=Path, required=True, help="image, or folder for folders")
    fuse.add_argument("--resize", choices=["ir-to-vi"], help="scale infrared of another size")
    levels = "grey levels of a 16-bit or float infrared image that become black and white"
    fuse.add_argument("--ir-range", nargs=2, type=float, metavar=("LOW", "HIGH"), help=levels)
    fuse.add_argument("--ir-rgb", choices=["luma"], help="take the luma of pseudo-colour infrared")
    _add_flags(fuse, {"--grey": "write the fused luma without colour"})
    _add_reading(fuse)
    add_model(fuse, "the one the weights were trained with")
    fuse.add_argument("--weights", type=Path, help="weights file (default: the shipped ones)")
    faster = "bf16 is faster with AVX-512 BF16, AMX or a GPU, and may move pixels by a grey level"
    fuse.add_argument("--precision", default="fp32", choices=PRECISIONS, help=faster)


def _add_evaluate(commands) -> None:
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
    _add_flags(evaluate, flags)
    _add_reading(evaluate)
    evaluate.add_argument("-o", "--out", type=Path, help="CSV of values; others stay in it")
    evaluate.add_argument("--jobs", type=int, default=-1, help="processes (default: all cores)")
    evaluate.add_argument("--data-root", help="default: $FUSIONLIB_DATA or data/images")


def _add_train(commands) -> None:
    train = commands.add_parser("train", help="train on the datasets that are present")
    train.set_defaults(command=_train)
    train.add_argument("--preset", default="cpu", choices=["quick", "cpu", "shipped", "paper"])
    train.add_argument("--out", type=Path, help="folder; an unfinished training there goes on")
    for name, (kind, about) in RECIPE.items():
        choices = PRECISIONS if name == "precision" else None
        option = f"--{name.replace('_', '-')}"
        train.add_argument(option, type=kind, choices=choices, help=about)
    train.add_argument("--init", type=Path, help="weights to start from instead of random ones")
    flags = {
        "--without-cii": "ablation: no injection",
        "--without-cff": "ablation: concatenation",
        "--compile": "use torch.compile",
        "--force-resume": "go on though recipe, data or code changed",
    }
    _add_flags(train, flags)
    add_data_root(train)
    add_model(train, "embedded")


def _add_flags(parser: argparse.ArgumentParser, flags: dict[str, str]) -> None:
    for name, about in flags.items():
        parser.add_argument(name, action="store_true", help=about)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    bad = "a pair that cannot be read: stop (default), or leave it out and report it"
    parser.add_argument("--on-bad", choices=["error", "skip"], default="error", help=bad)
    _add_flags(parser, {"--follow-links": "read images that are links out of their folder"})


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


def _fuse(options: argparse.Namespace) -> None:
    from fusionlib import checks, images, inference
    from fusionlib.datasets import Pair, pair_folders

    if options.ir.is_dir() != options.vi.is_dir():
        raise PairError(f"{options.ir} and {options.vi}: expected two files or two folders")
    folders = options.ir.is_dir()
    pairs = (
        pair_folders(options.ir, options.vi, follow_links=options.follow_links)
        if folders
        else [Pair("", options.out.stem, options.ir, options.vi)]
    )
    if not pairs:
        raise PairError(f"{options.ir} has no images")
    if not folders:
        images.check_target(options.out)
    device = check_device(options.device)
    reading = {
        "resize": options.resize,
        "ir_range": tuple(options.ir_range) if options.ir_range else None,
        "ir_rgb": options.ir_rgb or "grey",
    }
    on_bad = options.on_bad if folders else "error"
    good, issues = checks.inspect_pairs(pairs, on_bad=on_bad, **reading)
    fuser = inference.load_fuser(options.weights, options.encoder, device, options.precision)
    if folders:
        written = inference.fuse_files(fuser, good, options.out, grey=options.grey, **reading)
        what = f"{len(list(written))} of {len(pairs)} images in {options.out}"
        checks.write_issues(options.out / "issues.csv", issues)
        used = {
            "weights": fuser.weights.path.name,
            "sha256": fuser.weights.sha256,
            "encoder": fuser.encoder.name,
            "precision": fuser.precision,
            "grey": options.grey,
            **reading,
        }
        write_atomically(options.out / "fused.json", f"{json.dumps(used, indent=1)}\n".encode())
    else:
        fused = inference.fuse_pair(fuser, good[0], grey=options.grey, **reading)
        what = str(images.save_image(options.out, fused))
    for issue in issues:
        print(f"{issue.status}: {issue.name or 'all'}: {issue.detail}", file=sys.stderr)
    print(f"{what}: weights {fuser.weights.path.name}, encoder {fuser.encoder.title}")


def _train(options: argparse.Namespace) -> None:
    from fusionlib import inference
    from fusionlib.datasets import SYNTHETIC, chosen_root
    from fusionlib.encoder import EMBEDDED, load_encoder
    from fusionlib.recipe import PRESETS
    from fusionlib.splits import QUICK_PAIRS, find_parts
    from fusionlib.training import Trainer
    from fusionlib.weights import load_weights

    out = options.out or Path("runs") / "train" / options.preset
    _, parts = find_parts(options.data_root, QUICK_PAIRS if options.preset == "quick" else None)
    if SYNTHETIC in parts:
        why = "as asked" if chosen_root(options.data_root) is None else "no dataset found"
        print(f"{why}: training on the synthetic scenes")
    train, val = ([p for found in parts.values() for p in found[part]] for part in ("train", "val"))
    inference.reuse_memory()
    device = check_device(options.device)
    encoder = load_encoder(options.encoder or EMBEDDED, device)
    trainer = Trainer(
        _recipe(options, PRESETS[options.preset]),
        encoder,
        train,
        val,
        out,
        device,
        resume="force" if options.force_resume else True,
        compiled=options.compile,
        init=load_weights(options.init, encoder) if options.init else None,
    )
    if trainer.step:
        print(f"going on after step {trainer.step} of {trainer.total}")
    trainer.run()
    if trainer.processes.is_main_process:
        print(
            f"{out / 'best.safetensors'}: validation loss {trainer.best:.4f}, "
            f"encoder {encoder.title}"
        )


def _recipe(options: argparse.Namespace, config):
    """The preset's `TrainConfig` with what the options say instead."""
    network = dataclasses.replace(
        config.network, use_cii=not options.without_cii, use_cff=not options.without_cff
    )
    given = {name: getattr(options, name) for name in RECIPE}
    given = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(config, network=network, **given)


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


if __name__ == "__main__":
    sys.exit(main())
