"""Which pairs train, validate and test: the committed lists, and the rule for other pairs."""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from fusionlib.datasets import (
    DATASETS,
    REAL,
    SCENES,
    SYNTHETIC,
    chosen_root,
    default_root,
    find_pairs,
    own_datasets,
    require_pairs,
)
from fusionlib.errors import DatasetError
from fusionlib.files import DATA
from fusionlib.pairing import Pair, is_plain_name

Split = Literal["train", "val", "test"]

SPLITS = DATA / "splits"
QUICK_PAIRS = 4  # of each dataset and part, in the preset quick
VALIDATION_SHARE = 20  # one training pair in so many is held out for validation
OWN_SHARE = 0.1  # of one's own pairs, held out for validation


class Listed(NamedTuple):
    """One row of a committed list.

    Attributes:
        split: ``train``, ``val``, ``test`` or ``""`` (not used).
        sha256_ir: `fusionlib.images.pixel_sha256` of the infrared image; may be empty.
        sha256_vi: the same of the visible one.
        scene: what pairs that show one place share; may be empty.
    """

    split: str
    sha256_ir: str = ""
    sha256_vi: str = ""
    scene: str = ""


def split_pairs(
    pairs: Sequence[Pair],
    dataset: str,
    splits: Path | str = SPLITS,
    own_share: float = OWN_SHARE,
) -> dict[Split, list[Pair]]:
    """Divide the pairs that are present into training, validation and test pairs.

    The committed list decides when all its pairs are present and no others; otherwise
    `draw_split` draws from what is there and keeps what it can of the list. Pairs of a dataset
    that the paper does not have all train, but for those that validate.

    Args:
        pairs: from `find_pairs`.
        dataset: a key of `DATASETS`, or a name of one's own.
        splits: folder of the committed lists.
        own_share: of one's own pairs, that validate: at least one unless it is 0, never all.

    Raises:
        DatasetError: a committed list that puts one name into two parts.
    """
    by_name = {pair.name: pair for pair in pairs}
    listed = read_list(dataset, splits)
    if dataset not in DATASETS:
        order = sorted(by_name, key=lambda name: _draw(dataset, name))
        count = min(max(round(own_share * len(order)), own_share > 0), max(0, len(order) - 1))
        drawn = dict.fromkeys(sorted(by_name), "train") | dict.fromkeys(order[:count], "val")
    elif by_name.keys() == listed.keys():
        drawn = {name: row.split for name, row in listed.items()}
    else:
        drawn = draw_split(by_name, dataset, listed)
    parts: dict[Split, list[Pair]] = {"train": [], "val": [], "test": []}
    for name, part in drawn.items():
        if part:
            parts[part].append(by_name[name])
    return parts


def split_rule(parts: Mapping[Split, Sequence[Pair]], dataset: str) -> str:
    """Who divided these pairs: ``committed`` (the list), ``drawn`` (the rule) or ``own``."""
    listed = {name: row.split for name, row in read_list(dataset).items() if row.split}
    divided = {pair.name: part for part, pairs in parts.items() for pair in pairs}
    return "own" if dataset not in DATASETS else "committed" if divided == listed else "drawn"


def draw_split(
    names: Iterable[str], dataset: str, listed: Mapping[str, Listed] | None = None
) -> dict[str, str]:
    """The rule: order names by the sha256 of dataset and name, then count off.

    No known scene is in both training and test. Test pairs come first: the listed ones if all are
    present, else the pinned ones, then those of the smallest scenes, until the paper's count is
    reached. With fewer pairs than the paper had, at most half are test pairs. Of the training
    pairs one in twenty validates, listed validation pairs before others. Where the list names
    scenes, a name that is not in it but begins like one that is could show any of them: not used.

    Args:
        names: all names that are present.
        dataset: a key of `DATASETS`.
        listed: rows of an earlier list, from `read_list`.

    Returns:
        name → ``train``, ``val``, ``test`` or ``""`` (not used), sorted by name.
    """
    known, listed = DATASETS[dataset], listed or {}
    parts = dict.fromkeys(sorted(set(names)), "")
    prefix = slice(known.scene or None)  # None: the whole name
    unsure = {name[prefix] for name, row in listed.items() if row.scene}
    rows = {
        name: listed.get(name, Listed(""))
        for name in sorted(parts, key=lambda name: _draw(dataset, name))
        if name in listed or name[prefix] not in unsure
    }
    scene = {name: row.scene or name[prefix] for name, row in rows.items()}
    chosen = [name for name, row in listed.items() if row.split == "test"]
    if not chosen or not parts.keys() >= set(chosen):
        size = Counter(scene.values())
        order = sorted(  # stable: within one scene, and of pairs without, as drawn
            scene,
            key=lambda n: (n not in known.pinned, size[scene[n]], known.scene and scene[n]),
        )
        wanted = min(known.test, len(order) // 2 if known.train else len(order))
        chosen = order[:wanted]
    barred = {scene[name] for name in chosen}
    train = [name for name in rows if scene[name] not in barred][: known.train]
    count = max(round(len(train) / VALIDATION_SHARE), len(train) > 1)
    parts |= dict.fromkeys(chosen, "test") | dict.fromkeys(train, "train")
    train.sort(key=lambda name: rows[name].split != "val")  # stable
    return parts | dict.fromkeys(train[:count], "val")


def _draw(dataset: str, name: str) -> str:
    """A sort key: a random order that does not depend on which other names are present."""
    return hashlib.sha256(f"{dataset}/{name}".encode()).hexdigest()


def read_split(dataset: str, splits: Path | str = SPLITS) -> dict[str, str]:
    """The committed list of a dataset, name → part; see `read_list`."""
    return {name: row.split for name, row in read_list(dataset, splits).items()}


def read_list(dataset: str, splits: Path | str = SPLITS) -> dict[str, Listed]:
    """The committed list of a dataset, name → row; empty if there is none.

    Raises:
        DatasetError: damaged, one name twice, a name that is a path, or an unknown part.
    """
    if dataset not in DATASETS:
        return {}
    path = Path(splits) / f"{dataset}.csv"
    rows: dict[str, Listed] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                name, part = row.get("name"), row.get("split")
                if name is None or not is_plain_name(name):
                    raise DatasetError(f"{path}: {name!r} is not the name of a pair")
                if name in rows or part not in ("train", "val", "test", ""):
                    raise DatasetError(f"{path}: {name!r} stands there twice, or has part {part!r}")
                rows[name] = Listed(**{key: row.get(key) or "" for key in Listed._fields})
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a list of pairs ({error})") from error
    return rows


def find_parts(
    given: str | None = None,
    most: int | None = None,
    names: Sequence[str] | None = None,
    own_share: float = OWN_SHARE,
) -> tuple[Path, dict[str, dict[Split, list[Pair]]]]:
    """The datasets that are there, divided, or the drawn scenes.

    Args:
        given: data root, see `fusionlib.datasets.chosen_root`.
        most: pairs of each part of a dataset at the most; None for all. The scenes are few.
        names: datasets, own ones too, all of which must be there; None for those of the paper.
        own_share: see `split_pairs`.

    Returns:
        The folder, and dataset → its training, validation and test pairs.

    Raises:
        DatasetError: a data root or ``$FUSIONLIB_DATA`` was given but has none of the datasets.
    """
    root = default_root(given) if names else chosen_root(given)
    if names:
        found = {name: require_pairs(root, name) for name in names}
    else:
        found = {name: find_pairs(root, name) for name in REAL} if root and root.is_dir() else {}
    parts = {n: split_pairs(p, n, own_share=own_share) for n, p in found.items() if p}
    if parts:
        return root, {
            name: {part: pairs[:most] for part, pairs in divided.items()}
            for name, divided in parts.items()
        }
    if root and (given or os.environ.get("FUSIONLIB_DATA")):
        own = own_datasets(root)
        raise DatasetError(
            f"{root} has none of {', '.join(REAL)} (as <Dataset>/ir and <Dataset>/vi); see "
            f"`python -m fusionlib data status`"
            + (f". Own pairs are there: `train --dataset {' '.join(own)}`" if own else "")
        )
    return SCENES, {SYNTHETIC: drawn_scenes()}


def drawn_scenes() -> dict[Split, list[Pair]]:
    """Training, validation and test pairs of the scenes that come with the repository."""
    return split_pairs(find_pairs(SCENES, SYNTHETIC), SYNTHETIC)
