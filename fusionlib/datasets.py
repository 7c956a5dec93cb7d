"""The five datasets: where their files are, which belong together, which train and which test."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from fusionlib.errors import DatasetError, ImageError, PairError
from fusionlib.files import DATA, USER_DATA
from fusionlib.images import MAX_PIXELS, image_size, read_ir, read_vi
from fusionlib.pairing import Pair, is_plain_name, pair_folders

SYNTHETIC = "Synthetic"
SCENES = DATA / "synthetic"  # the drawn scenes, with ir/ and vi/
DRAWN = "synthetic"  # given as data root: the drawn scenes, whatever datasets are there


@dataclass(frozen=True)
class Dataset:
    """What the paper says of a dataset, and where its owner keeps the images.

    Attributes:
        name: as in the paper, and the folder below the data root.
        train: training pairs in the paper.
        test: test pairs in the paper.
        layouts: (infrared, visible) folders below the dataset's, ours first. RoadScene's
            crop_HR_visible is larger and not aligned to the pixel: never used.
        scene: leading characters that names of one scene share, unless the committed list says
            more; 0 if every pair is its own scene.
        pinned: names that are always test pairs (shown in the paper's figures).
        page: the owner's.
        terms: in one line.
        url: of the zip, where a program can fetch it, else empty.
        how: what to do on the page, where none can.
    """

    name: str
    train: int
    test: int
    layouts: tuple[tuple[str, str], ...]
    scene: int
    pinned: tuple[str, ...]
    page: str
    terms: str
    url: str
    how: str


OURS = ("ir", "vi")
with (DATA / "datasets.csv").open(newline="", encoding="utf-8") as _file:
    DATASETS = {
        row["name"]: Dataset(
            **row
            | {key: int(row[key]) for key in ("train", "test", "scene")}
            | {"layouts": (OURS, *(tuple(both.split(":")) for both in row["layouts"].split()))}
            | {"pinned": tuple(row["pinned"].split())}
        )
        for row in csv.DictReader(_file)
    }
REAL = tuple(name for name in DATASETS if name != SYNTHETIC)


def chosen_root(given: Path | str | None = None) -> Path | None:
    """Folder of the datasets: as given, else ``$FUSIONLIB_DATA``, else ``data/images``.

    The word ``synthetic`` gives None: drawn scenes. A folder of that name is ``./synthetic``.
    """
    chosen = given or os.environ.get("FUSIONLIB_DATA") or USER_DATA / "images"
    return None if chosen == DRAWN else Path(chosen).expanduser()


def default_root(given: Path | str | None = None) -> Path:
    """The same for what needs a folder; raises DatasetError for ``synthetic``."""
    root = chosen_root(given)
    if root is None:
        raise DatasetError(
            f"data root {DRAWN!r} means the drawn scenes, and this needs a folder of datasets: "
            f"name one (a folder of that name is ./{DRAWN}), or unset FUSIONLIB_DATA"
        )
    return root


def find_pairs(root: Path | str, dataset: str, *, follow_links: bool = False) -> list[Pair]:
    """All pairs of a dataset below a data root, sorted by name; empty if it is not there.

    Args:
        root: data root, with a folder for each dataset; for the drawn scenes their own folder.
        dataset: a key of `DATASETS`, or a folder of one's own with ``ir/`` and ``vi/``.
        follow_links: see `fusionlib.pairing.pair_folders`.

    Raises:
        DatasetError: one name in two parts of a dataset, or a dataset's name that is a path.
        PairError: see `fusionlib.pairing.pair_folders`.
    """
    if not is_plain_name(dataset):
        raise DatasetError(f"dataset {dataset!r}: expected the name of a folder in {root}")
    layouts = DATASETS[dataset].layouts if dataset in DATASETS else (OURS,)
    folder = Path(root) if dataset == SYNTHETIC else Path(root) / dataset
    pairs: dict[str, Pair] = {}
    seen: list[Path] = []
    for ir, vi in ((folder / ir, folder / vi) for ir, vi in layouts):
        if not (ir.is_dir() and vi.is_dir()) or any(map(ir.samefile, seen)):
            continue  # "ir" and "IR" are one folder on some systems
        seen.append(ir)
        for pair in pair_folders(ir, vi, dataset, follow_links=follow_links):
            other = pairs.setdefault(pair.name, pair)
            if other is not pair:
                raise DatasetError(f"{pair.name} stands both in {other.ir} and {pair.ir}")
    return [pairs[name] for name in sorted(pairs)]


def own_datasets(root: Path | str) -> list[str]:
    """Folders of a data root that have ``ir/`` and ``vi/`` and are none of `DATASETS`."""
    folders = sorted(Path(root).iterdir()) if Path(root).is_dir() else []
    return [
        folder.name
        for folder in folders
        if folder.name not in DATASETS and all((folder / side).is_dir() for side in OURS)
    ]


def require_pairs(root: Path | str, dataset: str, *, follow_links: bool = False) -> list[Pair]:
    """`find_pairs`, or a DatasetError that says which datasets there are."""
    if pairs := find_pairs(root, dataset, follow_links=follow_links):
        return pairs
    own = ", ".join(own_datasets(root)) or "none"
    raise DatasetError(
        f"{root} has no {dataset} (as {dataset}/ir and {dataset}/vi). Datasets of the paper: "
        f"{', '.join(REAL)}, see `fusionlib data status`; own ones there: {own}"
    )


def name_of_folders(ir: Path, vi: Path | None = None) -> str:
    """What to call pairs: after the folder that holds both of theirs, else after the first path.

    Never the name of a known dataset, whose numbers theirs are not.
    """
    ir = ir.absolute()
    name = ir.parent.name if vi and ir.parent == vi.absolute().parent else ir.stem
    name = name if is_plain_name(name) else "own"
    return f"{name}-pairs" if name in DATASETS else name


def load_pair(
    pair: Pair,
    *,
    resize: Literal["ir-to-vi"] | None = None,
    ir_range: tuple[float, float] | None = None,
    vi_range: tuple[float, float] | None = None,
    ir_rgb: Literal["grey", "luma", "palette"] = "grey",
    ir_invert: bool = False,
    frame: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> tuple[np.ndarray, np.ndarray]:
    """Read both images of a pair.

    Args:
        pair: what to read.
        resize: ``"ir-to-vi"`` brings the infrared image to the size of the visible one (bicubic)
            instead of refusing the pair.
        ir_range: see `fusionlib.images.read_ir`, also for all that follows.
        vi_range: the same for the visible image.
        ir_rgb: ``"grey"``, ``"luma"`` or ``"palette"``.
        ir_invert: the infrared image is black-hot.
        frame: of both files.
        max_pixels: of either file.

    Returns:
        Infrared (H, W) and visible RGB (H, W, 3), float32 in [0, 1].

    Raises:
        PairError: different sizes.
        ImageError: see `fusionlib.images`.
    """
    file = {"frame": frame, "max_pixels": max_pixels}
    ir = read_ir(pair.ir, ir_range=ir_range, ir_rgb=ir_rgb, ir_invert=ir_invert, **file)
    vi = read_vi(pair.vi, vi_range=vi_range, **file)
    if ir.shape == vi.shape[:2]:
        return ir, vi
    if resize != "ir-to-vi":
        raise PairError(_other_sizes(pair, ir.shape, vi.shape))
    scaled = Image.fromarray(ir).resize(vi.shape[1::-1], Image.Resampling.BICUBIC)
    return np.clip(np.asarray(scaled), 0, 1), vi


def check_pair(pair: Pair, *, resize: str | None = None, frame: int | None = None) -> str:
    """What is wrong with a pair by its headers alone, or an empty string; see `load_pair`."""
    try:
        ir, vi = image_size(pair.ir, frame), image_size(pair.vi, frame)
    except ImageError as error:
        return str(error)
    return "" if resize or ir == vi else _other_sizes(pair, ir, vi)


def _other_sizes(pair: Pair, ir: Sequence[int], vi: Sequence[int]) -> str:
    return (
        f"{pair.ir} is {ir[1]}×{ir[0]} but {pair.vi} is {vi[1]}×{vi[0]}; the two must be "
        "registered and of one size (--resize ir-to-vi scales the infrared image)"
    )
