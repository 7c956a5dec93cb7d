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
from paper.paper_tables import CELLS
from paper.reported import OURS

# method in Table 4 → (use_cii, use_cff), in the paper's order
VARIANTS = {
    "without_cii": (False, True),
    "without_cff": (True, False),
    "without_both": (False, False),
    OURS: (True, True),
}
TITLES = {
    "without_cii": "w/o CII",
    "without_cff": "w/o CFF",
    "without_both": "w/o CII and CFF",
    OURS: OURS,
}
NOT_TRAINED = "not trained by this recipe"
FEATURES = {
    "real": "real features",
    "other_image": "features of another image",
    "zeros": "zeros",
    "random_encoder": "features of a random encoder",
}

Features = Callable[[Tensor], Tensor]  # (1, 1 or 3, H, W) in [0, 1] → (1, E)


def load_variants(full: Weights) -> tuple[dict[str, list[Weights]], dict[str, str]]:
    """The full model and, beside its file, the variants that can be compared with it.

    Args:
        full: weights of the whole network. Beside it lie ``<variant>.safetensors`` and, trained
            with other seeds, ``<variant>_seed<k>.safetensors``; of the full model
            ``<its name>_seed<k>.safetensors``.

    Returns:
        Method of Table 4 → its weights, that without a seed in its name first; and name of a
        variant or file that is left out → why.

    Raises:
        WeightsError: ``full`` lacks a part, or a file is damaged.
    """
    config = full.net.config
    if not (config.use_cii and config.use_cff):
        raise WeightsError(f"{full.path}: lacks CII or CFF; the ablation compares the full model")
    variants, left_out = {}, {}
    for name, parts in VARIANTS.items():
        stem = full.path.stem if name == OURS else name
        main, folder = full.path.with_name(f"{stem}.safetensors"), full.path.parent
        if not main.is_file():
            left_out[name] = f"{NOT_TRAINED}: there is no {main.name} beside {full.path.name}"
            continue
        for path in (main, *sorted(folder.glob(f"{stem}_seed*.safetensors"))):
            weights = full if path == full.path else load_weights(path)
            key = path.stem.replace(stem, name, 1)
            if reason := _difference(weights, full, parts):
                left_out[key] = f"{NOT_TRAINED}: {reason}"
            elif key == name or name in variants:
                variants.setdefault(name, []).append(weights)
    return variants, left_out


def _difference(weights: Weights, full: Weights, parts: tuple[bool, bool]) -> str:
    """Why weights cannot be compared with the full model; empty if they can."""
    config = weights.net.config
    if (config.use_cii, config.use_cff) != parts:
        return (
            f"{weights.path.name} has use_cii={config.use_cii}, use_cff={config.use_cff}, expected "
            f"{parts[0]}, {parts[1]}"
        )
    one, other = _recipe(weights), _recipe(full)
    # what one record lacks was added to records later
    differing = [key for key in one if key in other and one[key] != other[key]]
    return f"{weights.path.name} differs in {', '.join(differing)}" if differing else ""


def _recipe(weights: Weights) -> dict:
    """What must be equal between trainings that are compared: all but the parts and the seed."""
    record, network = weights.record, dataclasses.asdict(weights.net.config)
    config = {k: v for k, v in record["config"].items() if k not in ("network", "seed")}
    network = {k: v for k, v in network.items() if k not in ("use_cii", "use_cff")}
    keys = ("of_steps", "train_pairs", "train_sha256")  # `steps` is where validation was best
    trained = {key: record[key] for key in keys if key in record}
    return {"encoder": weights.encoder} | config | network | trained


def fusers(fuser: Fuser, variants: dict[str, list[Weights]]) -> dict[str, Fuser]:
    """One fuser a training; those of further seeds are called ``<variant>_seed<k>``.

    Args:
        fuser: of the full model; all share its encoder and device.
        variants: from `load_variants`.
    """
    made = {}
    for name, (main, *further) in variants.items():
        made[name] = share(fuser, main)
        for weights in further:
            made[name + weights.path.stem.removeprefix(main.path.stem)] = share(fuser, weights)
    return made


def share(fuser: Fuser, weights: Weights) -> Fuser:
    """A fuser with other weights, on the same device and with the same encoder."""
    weights.net.to(fuser.device, memory_format=torch.channels_last)
    return dataclasses.replace(fuser, weights=weights)


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
        kinds: tuple[Features, ...] = (
            fuser.encoder,
            features_of(fuser, other),
            lambda image: torch.zeros(len(image), fuser.encoder.embed, device=image.device),
            random,
        )
        for kind, features in zip(FEATURES, kinds, strict=True):
            yield pair, kind, dataclasses.replace(fuser, encoder=features)


@torch.inference_mode()
def features_of(fuser: Fuser, pair: Pair) -> Features:
    """An encoder that answers with the features of this pair, whatever it is shown."""
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
    changes = {name: [] for name in folders}
    for pair in pairs:
        images = {
            name: read_luma8(folder / pair.dataset / f"{pair.name}.png").astype(float)
            for name, folder in folders.items()
        }
        for name, image in images.items():
            changes[name].append(np.abs(image - images[reference]).mean())
    return {name: float(np.mean(values)) for name, values in changes.items()}


def add_missing(cells: pd.DataFrame, dataset: str, left_out: Iterable[str]) -> pd.DataFrame:
    """Table 4 with a row for each variant that has no number here.

    Args:
        cells: from `paper.comparison.table_cells`.
        dataset: that Table 4 is of.
        left_out: names of variants, see `load_variants`; others are ignored.

    Returns:
        Columns `paper.paper_tables.CELLS`, variants in the paper's order.
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
    told = reported.set_index("method")[list(PAPER)]
    means, p = (summary.pivot(index="method", columns="metric", values=v) for v in ("mean", "p"))
    rows = {}
    for name in (name for name in VARIANTS if name != OURS):
        is_here = name in means.index
        for metric in PAPER:
            paper, here = _gain(told, name, metric), _gain(means, name, metric)
            signs = "" if np.isnan(paper * here) else "yes" if paper * here > 0 else "no"
            note = "" if is_here else NOT_TRAINED
            rows[TITLES[name], METRICS[metric].symbol] = (
                paper, here, signs, p.at[name, metric] if is_here else np.nan, note,
            )  # fmt: skip
    columns = ["paper %", "here %", "same sign", "p", "note"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    frame.index = pd.MultiIndex.from_tuples(rows, names=["variant", "metric"])
    return frame


def _gain(means: pd.DataFrame, name: str, metric: str) -> float:
    """By how much of its value the full model is better, in %."""
    if name not in means.index or metric not in means:
        return np.nan
    full, less = means.at[OURS, metric], means.at[name, metric]
    sign = 1 if METRICS[metric].direction == "higher" else -1
    return float(100 * sign * (full - less) / abs(full))


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
    sign = pd.Series({m: 1 if METRICS[m].direction == "higher" else -1 for m in means.columns})
    ahead = (means.loc[reference] - means) * sign  # > 0: the reference is better; NaN: neither
    rows = {}
    for method in means.index.drop(reference):
        gain, sure = ahead.loc[method], p.loc[method] < LEVEL
        rows[method] = {
            "better": int((gain > 0).sum()),
            "worse": int((gain < 0).sum()),
            f"better, p < {LEVEL}": int(((gain > 0) & sure).sum()),
            f"worse, p < {LEVEL}": int(((gain < 0) & sure).sum()),
            "untested": int(p.loc[method].isna().sum()),
        }
    order = [m for m in dict.fromkeys(summary["method"]) if m in rows]
    return pd.DataFrame.from_dict(rows, orient="index").loc[order].rename_axis("method")


def judge(row: pd.Series) -> str:
    """What a row of `compare_with` says about the reference: the method with the part.

    Returns:
        ``helps`` or ``harms`` (more metrics are significantly better, or worse), ``mixed`` (as many
        are), ``no difference shown``, or ``not tested`` (too few images).
    """
    better, worse = row[f"better, p < {LEVEL}"], row[f"worse, p < {LEVEL}"]
    if better != worse:
        return "helps" if better > worse else "harms"
    if better:
        return "mixed"
    tested = row["better"] + row["worse"] > row["untested"]
    return "no difference shown" if tested else "not tested"


def spread_of_seeds(summary: pd.DataFrame, seeds: dict[str, list[str]]) -> pd.DataFrame:
    """Means of each training of a variant: the interval over seeds, as far as there are several.

    Args:
        summary: from `fusionlib.statistics.summarise`, with a method for each training.
        seeds: variant → methods that are its trainings.

    Returns:
        Index ``(variant, metric)``; columns ``trainings, mean, least, most`` of their means.
    """
    rows = {}
    for variant, methods in seeds.items():
        means = summary[summary["method"].isin(methods)].groupby("metric", sort=False)["mean"]
        for metric, values in means:
            mean = values.mean(skipna=False)
            rows[variant, metric] = (len(values), mean, values.min(), values.max())
    frame = pd.DataFrame.from_dict(
        rows, orient="index", columns=["trainings", "mean", "least", "most"]
    )
    frame.index = pd.MultiIndex.from_tuples(rows, names=["variant", "metric"])
    return frame
