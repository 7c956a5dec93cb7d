"""``fusionlib train``: train on the datasets that are present, or on pairs of one's own."""

import argparse
import dataclasses
from pathlib import Path

from fusionlib.commands.options import (
    COUNT,
    DECAY,
    POSITIVE,
    PRECISIONS,
    SEED,
    SHARE,
    add_data_root,
    add_flags,
    add_levels,
    add_model,
    add_pairs,
    check_device,
    given_levels,
    own_pairs,
)
from fusionlib.errors import FusionError

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


def add(commands) -> None:
    """Add ``train`` to the command line."""
    train = commands.add_parser(
        "train", help="train on the datasets that are present, or on your own pairs"
    )
    train.set_defaults(command=_train, on_bad="error")
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
        "--follow-links": "read images of --pairs that are links out of their folder",
        "--force-resume": "go on though recipe, data or code changed",
    }
    add_flags(train, flags)
    add_data_root(train)
    train.add_argument(
        "--dataset", nargs="+", help="folders of the data root, your own too (default: the paper's)"
    )
    add_pairs(train)
    add_levels(train)
    train.add_argument("--val-share", type=DECAY, help="of your own pairs (default: 0.1)")
    add_model(train, "embedded")


def _train(options: argparse.Namespace) -> None:
    from fusionlib import inference
    from fusionlib.encoder import EMBEDDED, load_encoder
    from fusionlib.recipe import PRESETS
    from fusionlib.training import Trainer
    from fusionlib.weights import load_weights

    out = options.out or Path("runs") / "train" / options.preset
    config = _recipe(options, PRESETS[options.preset])
    parts, division = _divide(options)
    train, val = ([p for found in parts.values() for p in found[part]] for part in ("train", "val"))
    reading = given_levels(options, [*train, *val])
    inference.reuse_memory()
    device = check_device(options.device)
    encoder = load_encoder(options.encoder or EMBEDDED, device)
    trainer = Trainer(
        config,
        encoder,
        train,
        val,
        out,
        device,
        resume="force" if options.force_resume else True,
        compiled=options.compile,
        init=load_weights(options.init, encoder) if options.init else None,
        about={"division": division},
        **reading,
    )
    if trainer.step:
        print(f"going on after step {trainer.step} of {trainer.total}")
    trainer.run()
    if trainer.processes.is_main_process:
        loss = f"validation loss {trainer.best:.4f}" if val else "not validated"
        path = out / f"{'best' if val else 'last'}.safetensors"
        print(f"{path}: {loss}, encoder {encoder.title}")


RULES = {
    "committed": "{train} train, {val} validate, {test} are test pairs, as data/splits/ lists them",
    "drawn": "{train} train, {val} validate, {test} are test pairs; not those of data/splits/, so "
    "drawn by the rule in docs/data.md",
    "own": "your own pairs, {train} train, {val} validate (--val-share), none is a test pair",
}


def _divide(options: argparse.Namespace) -> tuple[dict, list[dict]]:
    """Dataset → its parts; and how they were divided, which is also printed."""
    from fusionlib.datasets import DATASETS, SYNTHETIC, chosen_root
    from fusionlib.splits import OWN_SHARE, QUICK_PAIRS, find_parts, split_pairs, split_rule

    share = OWN_SHARE if options.val_share is None else options.val_share
    if options.pairs:
        if options.dataset or options.data_root:
            raise FusionError("--pairs stands for itself: give neither --dataset nor --data-root")
        name, pairs = own_pairs(options)
        parts = {name: split_pairs(pairs, name, own_share=share)}
    else:
        _, parts = find_parts(options.data_root, names=options.dataset, own_share=share)
    if options.val_share is not None and parts.keys() <= DATASETS.keys():
        raise FusionError(f"--val-share is for your own pairs, not for {', '.join(parts)}")
    if SYNTHETIC in parts:
        why = "as asked" if chosen_root(options.data_root) is None else "no dataset found"
        print(f"{why}: training on the synthetic scenes")
    most, division = QUICK_PAIRS if options.preset == "quick" else None, []
    for name, found in parts.items():
        counts = {part: len(pairs) for part, pairs in found.items()}
        rule = RULES[split_rule(found, name)].format(**counts)
        found |= {part: pairs[:most] for part, pairs in found.items()}
        used = f"; quick uses {len(found['train'])} and {len(found['val'])} of them" if most else ""
        print(f"{name}: {rule}{used}")
        folders = {f.parent for part in found.values() for pair in part for f in (pair.ir, pair.vi)}
        folders = sorted(f"{folder.parent.name}/{folder.name}" for folder in folders)
        division.append({"dataset": name, "folders": folders, **counts, "rule": rule})
    return parts, division


def _recipe(options: argparse.Namespace, config):
    """The preset's `TrainConfig` with what the options say instead."""
    network = dataclasses.replace(
        config.network, use_cii=not options.without_cii, use_cff=not options.without_cff
    )
    given = {name: getattr(options, name) for name in RECIPE}
    given = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(config, network=network, **given)
