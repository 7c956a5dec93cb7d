"""What the notebooks of the comparison share: who takes part, fused images, values, rows, scenes.

A method takes part by running here, or by a folder of its fused images (`results_root`).
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from fusionlib import evaluation, statistics
from fusionlib.baselines import METHODS
from fusionlib.baselines.results import RELATED
from fusionlib.datasets import SYNTHETIC, Pair, load_pair
from fusionlib.images import image_size, read_luma8, save_image
from fusionlib.inference import Fuser
from fusionlib.metrics import PAPER
from fusionlib.pairing import images_by_stem
from fusionlib.splits import drawn_scenes
from fusionlib.weights import load_weights
from paper.reported import (
    ELSEWHERE,
    LETTER,
    OURS,
    OWN,
    TITLES,
    result_folders,
    results_root,
    rivals_printed,
)
from paper.run import Run
from paper.tables import CELLS, MEASURED, PART, REPORTED, SAME, PaperTable

QUICK = ("DATFuse", "SAGE", "average", "maximum", "laplacian")  # run in the preset quick
NOT_QUICK = "not run in the preset quick"
GROUPS = ("paper", "additional", "classical", "related")
LEARNED = GROUPS[:2]
ROWS = (REPORTED, MEASURED, PART, SAME)
KEYS = ["dataset", "metric", "method"]
NUMBERS = ["n", "mean", "low", "high", "rank", "p", "note", "ours"]  # of a part of the images
Tests = Mapping[str, Sequence[Pair]]  # dataset → its test pairs


@dataclass(frozen=True)
class Entry:
    """A method that takes part, by running here or by its images."""

    name: str  # key of the tables, and last part of its folder
    title: str  # what tables and captions call it
    group: Literal["paper", "additional", "classical", "related"]  # as of `Method`, or `RELATED`
    folder: Path  # its fused images, <dataset>/<name>.<ext>
    fuse: Callable[[np.ndarray, np.ndarray], np.ndarray] | None  # (ir, vi) → luma


def find_entries(run: Run, fuser: Fuser) -> tuple[dict[str, Entry], dict[str, str]]:
    """Who takes part, and who of the known methods does not.

    Args:
        run: its preset ``quick`` runs only `QUICK` and what needs no weights.
        fuser: our method.

    Returns:
        Name → entry, in the order of the tables: the paper's methods, ours to the letter, ours,
        additional, classical and related ones; a folder of images made elsewhere goes before a
        method that runs here. And name → why it is missing and what to do.

    Raises:
        DatasetError: see `paper.reported.result_folders`.
    """
    given, entries, absent = result_folders(), {}, {}
    for name, own in ({OURS: fuser} | find_letter(run, fuser)).items():
        entries[name] = Entry(name, TITLES[name], "paper", run.folder("results", name), own)
    for name, folder in given.items():
        method = METHODS.get(name)
        group = "paper" if name in ELSEWHERE else "related" if name in RELATED else "additional"
        known = (method.title, method.group) if method else (name, group)
        entries[name] = Entry(name, *known, folder, None)
    for name, method in METHODS.items():
        if name not in given:
            is_slow = run.preset == "quick" and method.weights and name not in QUICK
            folder = run.folder("results", name)
            if reason := NOT_QUICK if is_slow else method.missing():
                absent[name] = reason
            else:
                entries[name] = Entry(name, method.title, method.group, folder, method.fuse)
    for name in sorted(ELSEWHERE.keys() - given):
        absent[name] = f"{ELSEWHERE[name]}; images in {results_root() / name} would be measured"
    order = list(dict.fromkeys([*rivals_printed(), *OWN, *METHODS, *given]))
    key = {name: (GROUPS.index(entry.group), order.index(name)) for name, entry in entries.items()}
    return {name: entries[name] for name in sorted(entries, key=key.get)}, absent


def find_letter(run: Run, fuser: Fuser) -> dict[str, Fuser]:
    """`LETTER` → fuser of ``letter.safetensors`` beside the weights of a run.

    Empty if there is no such file, or it needs another encoder than ours.
    """
    path = run.weights.with_name(f"{LETTER}.safetensors")
    is_other = path != run.weights and path.is_file()
    if not is_other or load_weights(path).encoder != fuser.encoder.name:
        return {}
    weights = load_weights(path, fuser.encoder)
    weights.net.to(fuser.device, memory_format=torch.channels_last)
    return {LETTER: replace(fuser, weights=weights)}


def describe_absent(absent: Mapping[str, str]) -> str:
    """A sentence for tables, without paths of this machine: who has no measured row, and why."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in absent.items():
        if reason != NOT_QUICK:
            reason = ELSEWHERE.get(name, "published weights not on this machine, or refused")
        by_reason.setdefault(reason, []).append(name)
    missing = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
    return f"Without measured row: {missing}." if missing else ""


def describe_datasets(names: Sequence[str]) -> str:
    """Datasets as a caption names them."""
    return " and ".join("drawn synthetic scenes" if n == SYNTHETIC else n for n in names)


def find_tests(run: Run, datasets: Sequence[str]) -> dict[str, list[Pair]]:
    """Test pairs of the datasets that are there; of the synthetic scenes if none of them is."""
    found = {name: run.parts[name]["test"] for name in datasets if name in run.parts}
    return found or {SYNTHETIC: drawn_scenes()["test"]}


def check_results(entries: Mapping[str, Entry], tests: Tests) -> list[str]:
    """Look through the images that were made elsewhere, before anything takes time.

    Returns:
        A sentence for each folder that is missing or has too few or too many images.

    Raises:
        PairError: two images of one name.
        MetricError: an image of another size than its sources.
        ImageError: an image that cannot be read.
    """
    warnings = []
    elsewhere = [entry for entry in entries.values() if entry.fuse is None]
    for entry, dataset in itertools.product(elsewhere, tests):
        images, pairs = fused_images(entry, dataset), tests[dataset]
        is_known = entry.group == "related"
        lacking = [pair.name for pair in pairs if pair.name not in images]
        if len(lacking) == len(pairs) and not is_known:
            warnings.append(f"{entry.name}: no image of {dataset}, so no measured row there")
        elif lacking and len(lacking) < len(pairs):
            which = f" (without {', '.join(lacking)})" if len(lacking) <= evaluation.LISTED else ""
            of = f"{len(pairs) - len(lacking)} of {len(pairs)}"
            warnings.append(f"{entry.name}, {dataset}: images of {of} pairs{which}")
        if (extra := len(images.keys() - {pair.name for pair in pairs})) and not is_known:
            warnings.append(f"{entry.name}, {dataset}: {extra} images not asked for, ignored")
        for pair in pairs:
            if path := images.get(pair.name):
                evaluation.check_size(path, image_size(path), image_size(pair.vi))
    return warnings


def fused_images(entry: Entry, dataset: str) -> dict[str, Path]:
    """Name → fused image, of those that are there."""
    folder = entry.folder / dataset
    return images_by_stem(folder) if folder.is_dir() else {}


def fuse_all(entries: Mapping[str, Entry], tests: Tests) -> int:
    """Fuse every test pair with every method that runs here; returns the number of images.

    The luma is saved, rounded to 8 bits and never stretched, since that is what is judged.
    """
    running = [entry for entry in entries.values() if entry.fuse is not None]
    pairs = [pair for name in tests for pair in tests[name]]
    for pair in tqdm(pairs, desc="fusing", unit="pair"):
        sources = load_pair(pair)
        for entry in running:
            save_image(entry.folder / pair.dataset / f"{pair.name}.png", entry.fuse(*sources))
    return len(pairs) * len(running)


def measure(
    entries: Mapping[str, Entry], tests: Tests, csv: Path, *, part: bool = False
) -> pd.DataFrame:
    """Per-image values, as `fusionlib.evaluation.evaluate` returns and writes them.

    Of each dataset, those of the methods that have an image of every pair; or with ``part`` of
    those that have some and not all, which are compared with no others.
    """
    asked = []
    for entry, dataset in itertools.product(entries.values(), tests):
        share = np.mean([pair.name in fused_images(entry, dataset) for pair in tests[dataset]])
        asked += [(entry.name, dataset)] if (0 < share < 1 if part else share == 1) else []
    if not asked:
        csv.unlink(missing_ok=True)
        return pd.DataFrame(columns=[*evaluation.COLUMNS, *evaluation.ORIGIN])
    folders = {name: entries[name].folder for name, _ in asked}
    values = evaluation.evaluate(folders, tests, csv=csv, missing="mark")
    is_asked = pd.MultiIndex.from_frame(values[["method", "dataset"]]).isin(asked)
    values = values[is_asked & (values["reason"] != evaluation.NO_IMAGE)].reset_index(drop=True)
    evaluation.write_values(values, csv)
    return values


def summarise_parts(parts: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Statistics of each method over the images that it has, and ours over the same ones.

    Args:
        parts: from `measure` with ``part``.
        values: from `measure` without.

    Returns:
        Columns of `fusionlib.statistics.summarise`, without ranks; p is Holm-corrected over these
        methods of a dataset and metric. And ``ours``: mean of ours over the same images.
    """
    frames, ours = [pd.DataFrame(columns=[*KEYS, *NUMBERS])], values[values["method"] == OURS]
    for (dataset, method), part in parts.groupby(["dataset", "method"], sort=False):
        same = ours[(ours["dataset"] == dataset) & ours["name"].isin(part["name"])]
        both = statistics.summarise(pd.concat([part, same])).set_index(["method", "metric"])
        found = both.loc[method].assign(method=method, rank=np.nan, ours=both.loc[OURS, "mean"])
        frames.append(found.reset_index()[frames[0].columns])
    summary = pd.concat(frames if len(frames) == 1 else frames[1:], ignore_index=True)
    tested = summary.dropna(subset="p").groupby(["dataset", "metric"])["p"]
    summary["p"] = tested.transform(lambda p: statistics.holm(p.to_numpy()))
    return summary


def measure_brightness(entries: Mapping[str, Entry], tests: Tests, csv: Path) -> pd.DataFrame:
    """Brightness and contrast of the fused images, which section 4.4.1 of the paper speaks of.

    Returns:
        Columns `fusionlib.evaluation.COLUMNS`, of the methods that `measure` measures; ``metric``
        is ``mean`` or ``contrast``, mean and standard deviation of the 8-bit luma, 0–255.
    """
    rows = []
    for entry, dataset in itertools.product(entries.values(), tests):
        images, names = fused_images(entry, dataset), [pair.name for pair in tests[dataset]]
        for name in names if images.keys() >= set(names) else ():
            y, row = read_luma8(images[name]), (dataset, name, entry.name)
            rows += [(*row, "mean", float(y.mean())), (*row, "contrast", float(y.std()))]
    values = pd.DataFrame(rows, columns=evaluation.COLUMNS)
    evaluation.write_values(values, csv)
    return values


def table_cells(
    summary: pd.DataFrame,
    reported: pd.DataFrame,
    entries: Mapping[str, Entry],
    datasets: Sequence[str],
    parts: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Cells of a table of the paper: what is reported, and below it what was measured.

    Args:
        summary: from `fusionlib.statistics.summarise`.
        reported: from `paper.reported.read_reported`.
        entries: from `find_entries`.
        datasets: of the table, in order.
        parts: from `summarise_parts`: each row has below it ours over the same pairs.

    Returns:
        Columns `paper.tables.CELLS`; methods of the paper first, ours last of them,
        after ours to the letter, of which nothing is reported.
    """
    rows = [
        reported.melt(["dataset", "method"], list(PAPER), "metric").assign(row=REPORTED),
        summary.rename(columns={"mean": "value"}).assign(row=MEASURED),
    ]
    if parts is not None:
        ours = parts[[*KEYS, "n", "ours"]].rename(columns={"ours": "value"})
        rows += [parts.rename(columns={"mean": "value"}).assign(row=PART), ours.assign(row=SAME)]
    cells = pd.concat([frame for frame in rows if len(frame)]).reindex(columns=CELLS)
    methods = dict.fromkeys([*(n for n in reported["method"] if n != OURS), *entries])
    cells["group"] = [entries[n].group if n in entries else "paper" for n in cells["method"]]
    order = {"dataset": datasets, "method": methods, "row": ROWS, "metric": PAPER}
    cells = cells[np.logical_and.reduce([cells[key].isin(list(order[key])) for key in order])]
    cells = cells.sort_values([*order], key=lambda keys: keys.map([*order[keys.name]].index))
    return cells.reset_index(drop=True)


def find_differences(cells: pd.DataFrame) -> pd.DataFrame:
    """Reported beside measured, wherever there is both.

    Returns:
        Index ``(dataset, method, metric)``; columns ``reported, measured, low, high, difference``
        (measured − reported), ``percent`` of the reported value, and ``inside``: whether the
        reported value is in the 95 % interval of the measured one.
    """
    indexed = cells.set_index(["dataset", "method", "metric"])
    printed, found = (indexed[indexed["row"] == row] for row in (REPORTED, MEASURED))
    frame = found[["value", "low", "high"]].rename(columns={"value": "measured"})
    frame.insert(0, "reported", printed["value"])
    frame = frame.dropna(subset=["reported", "measured"])
    frame["difference"] = frame["measured"] - frame["reported"]
    frame["percent"] = 100 * frame["difference"] / frame["reported"]
    frame["inside"] = frame["reported"].between(frame["low"], frame["high"])
    return frame


def compose_table(
    cells: pd.DataFrame,
    number: int,
    caption: str,
    entries: Mapping[str, Entry],
    notes: Sequence[str] = (),
) -> PaperTable:
    """The table, with the explanations that its rows need; Table 4 marks only the best.

    Args:
        cells: from `table_cells`.
        number: of the table in the paper.
        caption: what it shows.
        entries: from `find_entries`.
        notes: what else stands below it.
    """
    titles = {name: entry.title for name, entry in entries.items()}
    places, best = 3, "The best three are bold (red), underlined (blue) and italic (green)"
    if number == 4:
        places, best = 1, "The best is bold (red)"
    explained = [
        "Measured: mean over n test images and its 95 % bootstrap interval; † differs from ours "
        f"with p < {statistics.LEVEL} (two-sided paired Wilcoxon test, Holm-corrected). {best}, of "
        "each dataset, among all methods measured here."
    ]
    if (cells["row"] == REPORTED).any():
        explained.append(
            "Reported: as the paper prints it, marked as there. Its test images, weights and "
            "metric code are others, so the two rows of a method need not agree."
        )
    if (cells["row"] == PART).any():
        explained.append(
            "n of N: images of a part of the pairs; ours over the same pairs stands below. The test"
            f" is over them, if n ≥ {statistics.LEAST_PAIRS}. Such rows take no part in the places."
        )
    if LETTER in set(cells["method"]):
        explained.append(
            f"{TITLES[LETTER].capitalize()}: the same network, trained by the paper's loss and "
            "recipe, nothing added but bf16; the number of its steps stands below."
        )
    return PaperTable(cells, number, caption, titles, [*explained, *filter(None, notes)], places)
