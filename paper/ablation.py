"""Leaving parts out: CII, CFF or both from the network, and the semantics from its input.

Weights without a part are trained separately, by the recipe of the full model and equally long;
features are replaced in the finished model, which tells how far its result depends on what they
say (paper, section 4.5).
"""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fusionlib.datasets import Pair, load_pair
from fusionlib.encoder import ImageEncoder
from fusionlib.errors import WeightsError
from fusionlib.images import read_luma8
from fusionlib.inference import Fuser
from fusionlib.metrics import METRICS, PAPER
from fusionlib.statistics import LEVEL
from fusionlib.weights import Weights, load_weights
from paper.reported import OURS, title_of
from paper.tables import CELLS

# method in Table 4 → (use_cii, use_cff), in the paper's order
VARIANTS = {
    "without_cii": (False, True),
    "without_cff": (True, False),
    "without_both": (False, False),
    OURS: (True, True),
}
NOT_TRAINED = "not trained by this recipe"
SYMBOLS = {name: metric.symbol for name, metric in METRICS.items()}
FEATURES = ("real", "other_image", "zeros", "random_encoder")

Features = Callable[[Tensor], Tensor]  # (1, 1 or 3, H, W) in [0, 1] → (1, E)


def load_variants(full: Weights) -> tuple[dict[str, Weights], dict[str, str]]:
    """The full model and, beside its file, the variants that can be compared with it.

    Args:
        full: weights of the whole network. Beside it lie ``<variant>.safetensors``.

    Returns:
        Method of Table 4 → its weights; and name of a variant that is left out → why.

    Raises:
        WeightsError: ``full`` lacks a part, or a file is damaged.
    """
    config = full.net.config
    if not (config.use_cii and config.use_cff):
        raise WeightsError(f"{full.path}: lacks CII or CFF; the ablation compares the full model")
    variants, left_out = {}, {}
    for name, parts in VARIANTS.items():
        path = full.path.with_name(f"{name}.safetensors")
        if name == OURS:
            variants[name] = full
        elif not path.is_file():
            left_out[name] = f"{NOT_TRAINED}: there is no {path.name} beside {full.path.name}"
        elif reason := _difference(weights := load_weights(path), full, parts):
            left_out[name] = f"{NOT_TRAINED}: {reason}"
        else:
            variants[name] = weights
    return variants, left_out


def further_seeds(variants: dict[str, Weights]) -> dict[str, Weights]:
    """Other trainings of the variants: ``<stem>_seed<k>.safetensors`` beside each, of one recipe.

    Args:
        variants: from `load_variants`.

    Returns:
        ``<method>_seed<k>`` → weights.
    """
    found = {}
    for name, first in variants.items():
        for path in sorted(first.path.parent.glob(f"{first.path.stem}_seed*.safetensors")):
            weights = load_weights(path)
            if not _difference(weights, variants[OURS], VARIANTS[name]):
                found[path.stem.replace(first.path.stem, name, 1)] = weights
    return found


def _difference(weights: Weights, full: Weights, parts: tuple[bool, bool]) -> str:
    """Why weights cannot be compared with the full model; empty if they can."""
    config = weights.net.config
    if (config.use_cii, config.use_cff) != parts:
        has = f"use_cii={config.use_cii}, use_cff={config.use_cff}"
        return f"{weights.path.name} has {has}, expected {parts[0]}, {parts[1]}"
    one, other = _recipe(weights), _recipe(full)
    # what one record lacks was added to records later
    differing = [key for key in one if key in other and one[key] != other[key]]
    return f"{weights.path.name} differs in {', '.join(differing)}" if differing else ""


def _recipe(weights: Weights) -> dict:
    """What must be equal between trainings that are compared: all but the parts and the seed."""
    record = weights.record
    keys = ("of_steps", "train_pairs", "train_sha256")  # `steps` is where validation was best
    recipe = {"encoder": weights.encoder} | record["config"]
    recipe |= dataclasses.asdict(weights.net.config) | {k: record[k] for k in keys if k in record}
    return {k: v for k, v in recipe.items() if k not in ("network", "seed", "use_cii", "use_cff")}


def fusers(fuser: Fuser, variants: dict[str, Weights]) -> dict[str, Fuser]:
    """One fuser a variant of `load_variants`; all share the encoder and device of ``fuser``."""
    for weights in variants.values():
        weights.net.to(fuser.device, memory_format=torch.channels_last)
    return {name: dataclasses.replace(fuser, weights=w) for name, w in variants.items()}


def replaced_features(
    fuser: Fuser, pairs: list[Pair], seed: int
) -> Iterator[tuple[Pair, str, Fuser]]:
    """The full model with other features, one pair after the other.

    Args:
        fuser: the full model.
        pairs: test pairs; the other image of each is the next one, of the last the first.
        seed: of the randomly initialised encoder.

    Yields:
        Pair, kind (one of `FEATURES`), and a fuser that sees that kind of features.

    Raises:
        WeightsError: with fewer than two pairs there is no other image.
    """
    if len(pairs) < 2:
        raise WeightsError("features of another image need at least two pairs")
    random = randomise(fuser.encoder, torch.Generator().manual_seed(seed))
    for pair, other in zip(pairs, [*pairs[1:], pairs[0]], strict=True):
        encoders = (
            fuser.encoder,
            features_of(fuser, other),
            lambda image: torch.zeros(len(image), fuser.encoder.embed, device=image.device),
            random,
        )
        for kind, encoder in zip(FEATURES, encoders, strict=True):
            yield pair, kind, dataclasses.replace(fuser, encoder=encoder)


@torch.inference_mode()
def features_of(fuser: Fuser, pair: Pair) -> Features:
    """An encoder that answers with the features of this pair, whatever image it is given."""
    ir, vi = load_pair(pair)
    images = torch.from_numpy(ir)[None, None], torch.from_numpy(vi).permute(2, 0, 1)[None]
    c_ir, c_vi = (fuser.encoder(image.float().to(fuser.device)) for image in images)
    return lambda image: c_ir if image.shape[1] == 1 else c_vi  # infrared has one channel


def randomise(encoder: ImageEncoder, generator: torch.Generator) -> ImageEncoder:
    """A copy with random weights: normal with variance 2 / inputs, no bias, neutral norms."""
    network = copy.deepcopy(encoder.network).cpu()
    for module in network.modules():
        if hasattr(module, "reset_running_stats"):
            module.reset_running_stats()
    for name, value in network.named_parameters():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value, generator=generator)
        else:  # of a normalisation, or a bias
            torch.nn.init.constant_(value, 0.0 if name.endswith("bias") else 1.0)
    return ImageEncoder(
        network,
        name="random",
        title=f"{encoder.title}, randomly initialised",
        size=encoder.size,
        mean=tuple(encoder.mean.flatten().tolist()),
        std=tuple(encoder.std.flatten().tolist()),
    ).to(encoder.mean.device)


def mean_change(folders: dict[str, Path], reference: str, pairs: list[Pair]) -> dict[str, float]:
    """Mean absolute difference of fused images from those of one method, in grey levels.

    Args:
        folders: method → its fused images, ``<dataset>/<name>.png``.
        reference: one of the methods.
        pairs: which images count, each alike.
    """

    def read(name: str, pair: Pair) -> np.ndarray:
        return read_luma8(folders[name] / pair.dataset / f"{pair.name}.png").astype(float)

    return {
        name: float(np.mean([np.abs(read(name, p) - read(reference, p)).mean() for p in pairs]))
        for name in folders
    }


def add_missing(cells: pd.DataFrame, dataset: str, left_out: Iterable[str]) -> pd.DataFrame:
    """Table 4 with a row for each variant that has no number here.

    Args:
        cells: from `paper.comparison.table_cells`.
        dataset: that Table 4 is of.
        left_out: names of variants, see `load_variants`; others are ignored.

    Returns:
        Columns `paper.tables.CELLS`, variants in the paper's order.
    """
    rows, none = [], float("nan")
    for name in VARIANTS:
        rows += cells.loc[cells["method"] == name, CELLS].itertuples(index=False, name=None)
        if name in left_out:
            start = (dataset, none, "paper", name, NOT_TRAINED)
            rows += [(*start, metric, none, none, none, none) for metric in PAPER]
    return pd.DataFrame(rows, columns=CELLS)


def find_differences(summary: pd.DataFrame, reported: pd.DataFrame) -> pd.DataFrame:
    """How much better the full model is than each variant, in the paper and here.

    Args:
        summary: of one dataset, from `fusionlib.statistics.summarise`.
        reported: Table 4 of the paper, from `paper.reported.read_reported`.

    Returns:
        Index ``(variant, metric)``, all 18; columns ``paper %`` and ``here %`` (gain of the full
        model in % of its value, positive where it is better, also where lower is), ``same sign``
        (yes or no), ``p`` (of the measured difference) and ``note``.
    """
    means, p = (summary.pivot(index="method", columns="metric", values=v) for v in ("mean", "p"))
    paper, here = _gains(reported.set_index("method")).stack(), _gains(means).stack()
    frame = pd.DataFrame({"paper %": paper, "here %": here}).drop(OURS)
    product = frame["paper %"] * frame["here %"]
    frame["same sign"] = np.select([product > 0, product.notna()], ["yes", "no"], "")
    frame["p"] = p.stack().reindex(frame.index)
    frame["note"] = np.where(frame.index.isin(means.index, level=0), "", NOT_TRAINED)
    frame = frame.rename(title_of, level=0).rename(SYMBOLS, level=1)
    return frame.rename_axis(["variant", "metric"])


def _gains(means: pd.DataFrame) -> pd.DataFrame:
    """By how much of its value the full model is better, in %; index method, columns metric."""
    means = means.reindex(index=list(VARIANTS), columns=PAPER)
    return 100 * sign_of(means) * (means.loc[OURS] - means) / means.loc[OURS].abs()


def sign_of(means: pd.DataFrame) -> pd.Series:
    """1 for metrics where higher is better, −1 where lower is."""
    return pd.Series({m: 1 if METRICS[m].direction == "higher" else -1 for m in means.columns})


def compare_with(summary: pd.DataFrame, reference: str, metrics: Iterable[str]) -> pd.DataFrame:
    """How often the reference is ahead of each other method, and how often that is significant.

    Args:
        summary: of one dataset, from `fusionlib.statistics.summarise` with ``ours=reference``.
        reference: method the others are compared with.
        metrics: which to count.

    Returns:
        Index method; columns ``better``, ``worse`` (cells where the mean of the reference is),
        ``better, p < 0.05`` and ``worse, p < 0.05`` (of those), ``untested`` (cells without test).
    """
    chosen = summary[summary["metric"].isin(list(metrics))]
    means, p = (chosen.pivot(index="method", columns="metric", values=v) for v in ("mean", "p"))
    ahead = (means.loc[reference] - means) * sign_of(means)  # > 0: the reference is better
    counts = {"better": ahead > 0, "worse": ahead < 0}
    counts |= {f"{name}, p < {LEVEL}": cells & (p < LEVEL) for name, cells in counts.items()}
    counts["untested"] = p.isna()
    frame = pd.DataFrame({name: cells.sum(axis=1) for name, cells in counts.items()})
    return frame.loc[chosen["method"].unique()].drop(reference)


def spread_of_seeds(summary: pd.DataFrame) -> pd.DataFrame:
    """How far the means of trainings lie apart that differ in nothing but their seed.

    Args:
        summary: from `fusionlib.statistics.summarise`; further trainings of a method are called
            ``<method>_seed<k>``.

    Returns:
        Index ``(variant, metric)``; columns ``trainings, mean, least, most`` of their means.
    """
    variant = summary["method"].str.replace(r"_seed\d+$", "", regex=True).rename("variant")
    means = summary.groupby([variant, "metric"], sort=False)["mean"]
    return means.agg(trainings="size", mean=lambda m: m.mean(skipna=False), least="min", most="max")
