"""Leaving parts out: CII, CFF or both from the network, and the semantics from its input.

Weights without a part are trained separately, by one recipe and equally long; features are replaced
in the finished full model, which tells how far its result depends on what they say.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fusionlib.clip import ImageEncoder
from fusionlib.datasets import Pair, load_pair
from fusionlib.errors import WeightsError
from fusionlib.images import read_luma8
from fusionlib.inference import Fuser
from fusionlib.metrics import METRICS
from fusionlib.statistics import LEVEL
from fusionlib.weights import SHIPPED, Weights, load_weights

# name in Table 4 → (file, use_cii, use_cff)
VARIANTS = {
    "without_both": ("without_both", False, False),
    "without_cii": ("without_cii", False, True),
    "without_cff": ("without_cff", True, False),
    "full": ("base", True, True),
}
TITLES = {
    "without_both": "w/o CII, CFF",
    "without_cii": "w/o CII",
    "without_cff": "w/o CFF",
    "full": "full",
}
FEATURES = {
    "real": "real features",
    "other_image": "features of another image",
    "zeros": "zeros",
    "random_encoder": "features of a random encoder",
}

Features = Callable[[Tensor], Tensor]  # (1, 1 or 3, H, W) in [0, 1] → (1, E)


def find_variants(beside: Path | str = SHIPPED) -> dict[str, list[Path]]:
    """Weights of the ablation: ``base``, ``without_cii``, ``without_cff``, ``without_both``.

    Args:
        beside: a weights file. Its folder is searched if it has ``base.safetensors``, else that of
            the shipped weights.

    Returns:
        Name in Table 4 → ``<file>.safetensors``, then those of further seeds,
        ``<file>_seed<k>.safetensors``, sorted.

    Raises:
        WeightsError: a file is missing; all that are missing are named.
    """
    folder = Path(beside).parent
    folder = folder if (folder / "base.safetensors").is_file() else SHIPPED.parent
    stems = {name: stem for name, (stem, _, _) in VARIANTS.items()}
    missing = [f"{s}.safetensors" for s in stems.values() if not _file(folder, s).is_file()]
    if missing:
        raise WeightsError(
            f"{folder}: the weights of the ablation are incomplete: {', '.join(missing)} missing; "
            f"train them with `python -m fusionlib train --without-cii --out …` and so on, all by "
            f"one recipe, and copy best.safetensors and best.json there under these names"
        )
    return {
        name: [_file(folder, stem), *sorted(folder.glob(f"{stem}_seed*.safetensors"))]
        for name, stem in stems.items()
    }


def load_variants(files: dict[str, list[Path]], encoder: ImageEncoder) -> dict[str, list[Weights]]:
    """Load what `find_variants` found, and check that it can be compared.

    Raises:
        WeightsError: a file is not what its name says, or was trained by another recipe or for
            another number of steps than the first.
    """
    loaded = {name: [load_weights(p, encoder) for p in paths] for name, paths in files.items()}
    expected = None
    for name, several in loaded.items():
        parts = VARIANTS[name][1:]
        for weights in several:
            config = weights.net.config
            if (config.use_cii, config.use_cff) != parts:
                raise WeightsError(
                    f"{weights.path}: use_cii={config.use_cii}, use_cff={config.use_cff}; "
                    f"expected {parts[0]}, {parts[1]} under this name"
                )
            recipe = _recipe(weights)
            expected = expected or recipe
            # what one record lacks was added to records later
            differing = [k for k in recipe if k in expected and recipe[k] != expected[k]]
            if differing:
                raise WeightsError(
                    f"{weights.path}: trained otherwise than the weights it is compared with "
                    f"({', '.join(differing)})"
                )
    return loaded


def _file(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.safetensors"


def _recipe(weights: Weights) -> dict:
    """What must be equal between trainings that are compared: all but the parts and the seed."""
    record, network = weights.record, dataclasses.asdict(weights.net.config)
    config = {k: v for k, v in record["config"].items() if k not in ("network", "seed")}
    network = {k: v for k, v in network.items() if k not in ("use_cii", "use_cff")}
    keys = ("of_steps", "train_pairs", "train_sha256")  # `steps` is where validation was best
    return config | network | {key: record[key] for key in keys if key in record}


def fusers(fuser: Fuser, variants: dict[str, list[Weights]]) -> dict[str, Fuser]:
    """One fuser a training; those of further seeds are called ``<variant>_seed<k>``.

    Args:
        fuser: whose encoder and device they share.
        variants: from `load_variants`.
    """
    made = {}
    for name, several in variants.items():
        for weights in several:
            weights.net.to(fuser.device, memory_format=torch.channels_last)
            key = weights.path.stem.replace(VARIANTS[name][0], name, 1)
            made[key] = dataclasses.replace(fuser, weights=weights)
    return made


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
    means = chosen.pivot(index="method", columns="metric", values="mean")
    p = chosen.pivot(index="method", columns="metric", values="p")
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
