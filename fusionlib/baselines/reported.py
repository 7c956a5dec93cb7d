"""What the paper reports, and images of methods that run elsewhere.

The paper's numbers are typed from it into ``data/paper/table1.csv`` … ``table4.csv``; an empty cell
is one that is not available here. Methods without weights that can be had are measured from a
folder of their fused images, ``<results>/<method>/<dataset>/<name>.png``.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fusionlib.datasets import REPOSITORY
from fusionlib.errors import DatasetError
from fusionlib.metrics import METRICS, PAPER

PAPER_TABLES = REPOSITORY / "data" / "paper"
OURS = "ours"  # the paper's own method, reported or measured
COLUMNS = ["dataset", "method", *PAPER, "source"]


@dataclass(frozen=True)
class Elsewhere:
    """A method of the paper's tables that cannot run here.

    Attributes:
        name: its folder of results, and its name in ``data/paper/``.
        source: citation.
        reason: why it cannot run.
        doubt: a footnote of its rows.
    """

    name: str
    source: str
    reason: str
    doubt: str = ""


ELSEWHERE = {
    method.name: method
    for method in (
        Elsewhere(
            "MLFusion",
            "H. Li et al., IEEE TIP, 2021; yuliu316316/MetaLearning-Fusion",
            "its published weights are not at hand",
        ),
        Elsewhere(
            "CHITNet",
            "Du et al., arXiv:2309.06118; lhf12278/CHITNet",
            "its weights were never published",
        ),
        Elsewhere(
            "IVFWSR",
            "Li, Liu, Zhang, Liu, Infrared-visible fusion without strict registration, IJCV, 2023;"
            " yuliu316316/IVF-WoReg",
            "its published weights are not at hand",
            "The paper's tables say IVFWSR, which usually means “Infrared-visible fusion without"
            " strict registration” (IJCV 2023); the citation in its text points to “Feature dynamic"
            " alignment and refinement … translation robust fusion” (Information Fusion 2023),"
            " usually called RFVIF. Which of the two was measured is not known.",
        ),
        Elsewhere(
            "TIMFusion",
            "R. Liu et al., IEEE TPAMI, 2024; LiuZhu-CV/TIMFusion",
            "its published weights are not at hand",
        ),
    )
}


def read_reported(table: int, folder: Path | str = PAPER_TABLES) -> pd.DataFrame:
    """Numbers of one of the paper's tables.

    Args:
        table: 1 to 4.
        folder: of the CSV files.

    Returns:
        Columns ``dataset, method``, the paper's six metrics (NaN: not available here), ``source``
        (where the line comes from); in the order of the file.

    Raises:
        DatasetError: no such file, other columns, two lines of a method and dataset, something
            that is not a number, a number that the metric cannot have, or numbers without source.
    """
    path = Path(folder) / f"table{table}.csv"
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read ({error})") from error
    if list(text.columns) != COLUMNS:
        raise DatasetError(f"{path}: expected the columns {', '.join(COLUMNS)}")
    frame = text.apply(lambda column: column.str.strip())
    for number, line in enumerate(frame.to_dict("records"), 2):
        _check_line(f"{path}, line {number}", line)
    twice = frame[frame.duplicated(["dataset", "method"])]
    if len(twice):
        dataset, method = twice.iloc[0][["dataset", "method"]]
        raise DatasetError(f"{path}: two lines for {method} on {dataset}")
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in PAPER})


def _check_line(where: str, line: dict[str, str]) -> None:
    if not line["dataset"] or not line["method"]:
        raise DatasetError(f"{where}: dataset and method must be given")
    for name in PAPER:
        if not line[name]:
            continue
        low, high = METRICS[name].range
        try:
            value = float(line[name])
            is_possible = math.isfinite(value) and low <= value <= high
        except ValueError:
            is_possible = False
        if not is_possible:
            raise DatasetError(
                f"{where}: {name} is {line[name]!r}; expected a number from {low:g} to {high:g}, "
                f"or nothing where it is not available"
            )
    if any(line[name] for name in PAPER) and not line["source"]:
        raise DatasetError(f"{where}: the source of these numbers is missing")


def results_root() -> Path:
    """Folders of images made elsewhere: ``$FUSIONLIB_RESULTS`` if set, else ``data/results``."""
    root = os.environ.get("FUSIONLIB_RESULTS") or REPOSITORY / "data" / "results"
    return Path(root).expanduser()


def result_folders() -> dict[str, Path]:
    """Method → its folder below `results_root`, sorted by name; empty if there is none.

    Raises:
        DatasetError: ``$FUSIONLIB_RESULTS`` is set and no folder; or a folder is called ``ours``.
    """
    root = results_root()
    if not root.is_dir():
        if os.environ.get("FUSIONLIB_RESULTS"):
            raise DatasetError(f"FUSIONLIB_RESULTS: {root} is no folder")
        return {}
    folders = (p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith("."))
    found = {folder.name: folder for folder in folders}
    if OURS in found:
        raise DatasetError(f"{found[OURS]}: the name of this method itself; rename the folder")
    return found
