"""``fusionlib train``: train on the datasets that are present."""

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
    add_model,
    check_device,
)

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
    add_flags(train, flags)
    add_data_root(train)
    add_model(train, "embedded")


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
