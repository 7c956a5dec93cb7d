"""What the notebooks of the comparison share: who takes part, fused images, values, rows, scenes.

A method takes part by running here, or by a folder of its fused images (`results_root`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from fusionlib import evaluation, tables
from fusionlib.baselines import METHODS
from fusionlib.baselines.reported import ELSEWHERE, OURS, result_folders, results_root
from fusionlib.datasets import (
    SCENES,
    SYNTHETIC,
    Pair,
    find_pairs,
    images_by_stem,
    load_pair,
    split_pairs,
)
from fusionlib.figures import Scene, read_zooms
from fusionlib.images import image_size, is_grey, read_luma8, replace_luma, save_image
from fusionlib.inference import Fuser
from fusionlib.metrics import PAPER
from fusionlib.paper_tables import CELLS, MEASURED, REPORTED, PaperTable
from fusionlib.run import Run
from fusionlib.statistics import LEVEL

QUICK = ("DATFuse", "average", "maximum", "laplacian")  # run in the preset quick
NOT_QUICK = "not run in the preset quick"
GROUPS = ("paper", "additional", "classical")
LEARNED = GROUPS[:2]
OTHERS_SHOWN = 6  # columns of a figure for other methods; classical ones only fill them up
Tests = Mapping[str, Sequence[Pair]]  # dataset → its test pairs


@dataclass(frozen=True)
class Entry:
    """A method that takes part.

    Attributes:
        name: key of the tables, and last part of its folder.
        title: what tables and captions call it.
        group: see `fusionlib.baselines.method.Method`.
        folder: its fused images, ``<dataset>/<name>.<ext>``.
        fuse: (ir, vi) → luma; None if the images were made elsewhere.
    """

    name: str
    title: str
    group: Literal["paper", "additional", "classical"]
    folder: Path
    fuse: Callable[[np.ndarray, np.ndarray], np.ndarray] | None


def find_entries(run: Run, fuser: Fuser) -> tuple[dict[str, Entry], dict[str, str]]:
    """Who takes part, and who of the known methods does not.

    Args:
        run: its preset ``quick`` runs only `QUICK`.
        fuser: our method.

    Returns:
        Name → entry, in the order of the tables: the paper's methods, ours, additional and
        classical ones. And name → why it is missing and what to do. Where there is a folder of
        images made elsewhere, that is what counts.

    Raises:
        DatasetError: see `fusionlib.baselines.reported.result_folders`.
    """
    entries = [Entry(OURS, OURS, "paper", run.folder("results", OURS), fuser)]
    absent = {}
    given = result_folders()
    for name, folder in given.items():
        method = METHODS.get(name)
        title, group = (method.title, method.group) if method else (name, "additional")
        entries.append(Entry(name, title, "paper" if name in ELSEWHERE else group, folder, None))
    for name, method in METHODS.items():
        if name in given:
            continue
        if run.preset == "quick" and name not in QUICK:
            absent[name] = NOT_QUICK
        elif reason := method.missing():
            absent[name] = reason
        else:
            folder = run.folder("results", name)
            entries.append(Entry(name, method.title, method.group, folder, method.fuse))
    for name, method in ELSEWHERE.items():
        if name not in given:
            absent[name] = f"{method.reason}; images in {results_root() / name} would be measured"
    known = [*METHODS, *ELSEWHERE]

    def place(entry: Entry) -> tuple:
        order = known.index(entry.name) if entry.name in known else len(known)
        return GROUPS.index(entry.group), entry.name == OURS, order

    return {entry.name: entry for entry in sorted(entries, key=place)}, absent


def describe_absent(absent: Mapping[str, str]) -> str:
    """A sentence for tables, without paths of this machine: who has no measured row, and why."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in absent.items():
        if name in ELSEWHERE:
            reason = ELSEWHERE[name].reason
        elif reason != NOT_QUICK:
            reason = "its published weights are not on this machine, or were refused"
        by_reason.setdefault(reason, []).append(name)
    told = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
    return f"Without measured row: {told}." if told else ""


def describe_datasets(names: Sequence[str]) -> str:
    """Datasets as a caption names them."""
    return " and ".join("drawn synthetic scenes" if n == SYNTHETIC else n for n in names)


def find_tests(run: Run, datasets: Sequence[str]) -> dict[str, list[Pair]]:
    """Test pairs of the datasets that are there; of the synthetic scenes if none of them is."""
    found = {name: run.parts[name]["test"] for name in datasets if name in run.parts}
    if found:
        return found
    return {SYNTHETIC: split_pairs(find_pairs(SCENES, SYNTHETIC), SYNTHETIC)["test"]}


def check_results(entries: Mapping[str, Entry], tests: Tests) -> list[str]:
    """Look through the images that were made elsewhere, before anything takes time.

    Returns:
        A sentence for each folder that is missing or has too few or too many images.

    Raises:
        MetricError: an image of another size than its sources.
        ImageError: an image that cannot be read.
    """
    remarks = []
    for entry in (entry for entry in entries.values() if entry.fuse is None):
        for dataset, pairs in tests.items():
            folder = entry.folder / dataset
            if not folder.is_dir():
                remarks.append(f"{entry.name}: no folder {dataset}, so no measured row there")
                continue
            images = images_by_stem(folder)
            lacking = [pair.name for pair in pairs if pair.name not in images]
            extra = len(images) - len(pairs) + len(lacking)
            if lacking:
                listed = ", ".join(lacking[: evaluation.LISTED])
                remarks.append(
                    f"{entry.name}, {dataset}: {len(lacking)} of {len(pairs)} images are missing "
                    f"({listed}), so there is no mean"
                )
            if extra:
                remarks.append(f"{entry.name}, {dataset}: {extra} images not asked for, ignored")
            for pair in (pair for pair in pairs if pair.name in images):
                path = images[pair.name]
                evaluation.check_size(path, image_size(path), image_size(pair.vi))
    return remarks


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


def measure(entries: Mapping[str, Entry], tests: Tests, csv: Path) -> pd.DataFrame:
    """Per-image values of all methods, as `fusionlib.evaluation.evaluate` returns and writes them.

    A method without any image of a dataset has no rows there; one with too few has marked rows.
    """
    folders = {name: entry.folder for name, entry in entries.items()}
    values = evaluation.evaluate(folders, tests, csv=csv, missing="mark")
    is_missing = values["reason"] == evaluation.NO_IMAGE
    is_absent = is_missing.groupby([values["dataset"], values["method"]]).transform("all")
    values = values[~is_absent].reset_index(drop=True)
    tables.write_values(values, csv)
    return values


def drop_incomplete(values: pd.DataFrame) -> pd.DataFrame:
    """Values without those of a method in a dataset of which it lacks images.

    A rank needs every method on every image, so one incomplete folder would cost all the ranks.
    """
    is_missing = values["reason"] == evaluation.NO_IMAGE
    is_lacking = is_missing.groupby([values["dataset"], values["method"]]).transform("any")
    return values[~is_lacking].reset_index(drop=True)


def table_cells(
    summary: pd.DataFrame,
    reported: pd.DataFrame,
    entries: Mapping[str, Entry],
    datasets: Sequence[str],
) -> pd.DataFrame:
    """Cells of a table of the paper: what is reported, and below it what was measured.

    Args:
        summary: from `fusionlib.statistics.summarise`.
        reported: from `fusionlib.baselines.reported.read_reported`.
        entries: from `find_entries`.
        datasets: of the table, in order.

    Returns:
        Columns `fusionlib.paper_tables.CELLS`; methods of the paper first, ours last of them.
    """
    lines = {(r["dataset"], r["method"]): r for r in reported.to_dict("records")}
    measured = {(r["dataset"], r["method"], r["metric"]): r for r in summary.to_dict("records")}
    from_paper = [name for name in dict.fromkeys(reported["method"]) if name != OURS]
    from_paper += [n for n, e in entries.items() if e.group == "paper" and n not in from_paper]
    order = dict.fromkeys([name for name in from_paper if name != OURS] + [OURS, *entries])
    cells = []
    for dataset in datasets:
        for method in order:
            group = entries[method].group if method in entries else "paper"
            for metric in PAPER if (dataset, method) in lines else ():
                value = lines[dataset, method][metric]
                row = (dataset, np.nan, group, method, REPORTED, metric, value)
                cells.append((*row, np.nan, np.nan, np.nan))
            for metric in PAPER:
                if (dataset, method, metric) in measured:
                    r = measured[dataset, method, metric]
                    row = (dataset, r["n"], group, method, MEASURED, metric, r["mean"])
                    cells.append((*row, r["low"], r["high"], r["p"]))
    return pd.DataFrame(cells, columns=CELLS)


def find_differences(cells: pd.DataFrame) -> pd.DataFrame:
    """Reported beside measured, wherever there is both.

    Returns:
        Index ``(dataset, method, metric)``; columns ``reported, measured, low, high, difference``
        (measured − reported), ``percent`` of the reported value, and ``inside``: whether the
        reported value is in the 95 % interval of the measured one.
    """
    keys = ["dataset", "method", "metric"]
    known = cells.dropna(subset="value").set_index(keys)
    told, found = (known[known["row"] == row] for row in (REPORTED, MEASURED))
    frame = found[["value", "low", "high"]].rename(columns={"value": "measured"})
    frame.insert(0, "reported", told["value"])
    frame = frame.dropna(subset="reported")
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
    """The table, with the explanations that its rows need.

    Args:
        cells: from `table_cells`.
        number: of the table in the paper.
        caption: what it shows.
        entries: from `find_entries`.
        notes: what else stands below it.
    """
    titles = {name: method.title for name, method in METHODS.items()}
    titles |= {name: entry.title for name, entry in entries.items()}
    footnotes = {
        name: method.doubt
        for name, method in ELSEWHERE.items()
        if method.doubt and name in set(cells["method"])
    }
    explained = [
        "Measured: mean over n test images; small, its 95 % bootstrap interval; † differs from "
        f"ours with p < {LEVEL} (two-sided paired Wilcoxon test, Holm-corrected). Best three of "
        "each dataset: first bold (red), second underlined (blue), third italic (green)."
    ]
    rows = cells[cells["row"] == REPORTED]
    if len(rows):
        explained.append(
            "Reported: as the paper prints it, of its own test images, weights and metric code, "
            "which are not at hand here; so the two rows of a method need not agree."
        )
    if rows["value"].isna().any():
        explained.append(
            "A dash in a reported row: the number is not available here; data/paper/README.md "
            "says how to add it."
        )
    return PaperTable(cells, number, caption, titles, footnotes, [*explained, *filter(None, notes)])


def find_scenes(
    entries: Mapping[str, Entry], tests: Tests, figure: int
) -> tuple[list[Scene], list[str]]:
    """Rows and column titles of a figure of the paper: infrared, visible, the methods, ours last.

    Scenes and regions are those of ``data/zooms.csv``; a dataset of which none is among the test
    pairs is shown by its first two, without regions. Colour comes from the visible image.
    """
    zooms = read_zooms(figure)
    chosen = []
    for pairs in tests.values():
        listed = {(pair.dataset, pair.name): pair for pair in pairs}
        chosen += [listed[key] for key in zooms if key in listed] or list(pairs[:2])
    shown = _shown(entries)
    scenes = []
    for pair in chosen:
        ir, vi = load_pair(pair)
        fused = [_fused(entry, pair, vi) for entry in shown]
        label = f"{pair.dataset}\n{pair.name.replace('_', ' ')}"
        scenes.append(Scene(label, [ir, vi, *fused], zooms.get((pair.dataset, pair.name), ())))
    return scenes, ["infrared", "visible", *(entry.title for entry in shown)]


def triples(entry: Entry, pairs: Sequence[Pair]) -> list[list[np.ndarray]]:
    """Infrared, visible and fused image of each pair, the latter in colour."""
    sources = [(pair, *load_pair(pair)) for pair in pairs]
    return [[ir, vi, _fused(entry, pair, vi)] for pair, ir, vi in sources]


def _shown(entries: Mapping[str, Entry]) -> list[Entry]:
    """All learned methods, classical ones only while there are few of those; ours last."""
    others = [entry for entry in entries.values() if entry.name != OURS]
    learned = [entry for entry in others if entry.group in LEARNED]
    classical = [entry for entry in others if entry.group not in LEARNED]
    return [*learned, *classical[: max(0, OTHERS_SHOWN - len(learned))], entries[OURS]]


def _fused(entry: Entry, pair: Pair, vi: np.ndarray) -> np.ndarray | None:
    """The fused image of a pair as it lies on disk, with the colour of the visible one."""
    folder = entry.folder / pair.dataset
    path = images_by_stem(folder).get(pair.name) if folder.is_dir() else None
    if path is None:
        return None
    y = read_luma8(path).astype(np.float32) / 255
    return y if is_grey(vi) else replace_luma(vi, y)
