"""From the tidy table of per-image values to the tables of the paper."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fusionlib.files import write_atomically
from fusionlib.metrics import METRICS

DECIMALS = {"qcv": 2}  # as the paper prints it; four of the others


def mean_table(frame: pd.DataFrame, methods: Sequence[str] | None = None) -> pd.DataFrame:
    """Mean of each metric over the images of a dataset, methods in rows.

    Args:
        frame: columns `fusionlib.evaluation.COLUMNS`.
        methods: order of the rows; by default that of their appearance.

    Returns:
        Index ``(dataset, n, method)``, a column for each metric. A mean over values of which one
        is missing is missing, too; ``attrs["undefined"]`` says why.

    Raises:
        ValueError: the methods were not measured on the same images.
    """
    methods = list(methods or dict.fromkeys(frame["method"]))
    for (dataset, metric), group in frame.groupby(["dataset", "metric"]):
        images = {m: frozenset(g["name"]) for m, g in group.groupby("method")}
        if len(set(images.values())) > 1:
            raise ValueError(f"{dataset}, {metric}: the methods have values for different images")
    sizes = frame.groupby("dataset")["name"].nunique()
    grouped = frame.groupby(["dataset", "method", "metric"], sort=False)
    means = grouped["value"].agg(lambda values: values.mean(skipna=False))
    rows = {
        (dataset, int(sizes[dataset]), method): means[dataset, method]
        for dataset in dict.fromkeys(frame["dataset"])
        for method in methods
        if (dataset, method) in means
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["dataset", "n", "method"])
    table = table[list(dict.fromkeys(frame["metric"]))]
    table.attrs["undefined"] = [_undefined(*key, group) for key, group in grouped if _gaps(group)]
    return table


def _gaps(group: pd.DataFrame) -> int:
    return int(group["value"].isna().sum())


def _undefined(dataset: str, method: str, metric: str, group: pd.DataFrame) -> str:
    """Why a cell has no mean."""
    reasons = sorted(set(group.loc[group["value"].isna()].get("reason", pd.Series(dtype=str))))
    told = f" ({'; '.join(filter(None, reasons))})" if any(reasons) else ""
    return f"{dataset}, {method}, {metric}: {_gaps(group)} of {len(group)} values undefined{told}"


def write_table(table: pd.DataFrame, folder: Path | str, name: str, note: str) -> list[Path]:
    """Write a table as CSV (exact) and as Markdown (rounded, the best bold, with its note).

    Args:
        table: from `mean_table`.
        folder: where.
        name: file name without suffix.
        note: what was measured on what, with which encoder and weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flat = table.reset_index()
    titles = [METRICS[c].title if c in METRICS else escape_markdown(str(c)) for c in flat.columns]
    lines = [
        "| " + " | ".join(titles) + " |",
        "|" + "|".join(" --- " if c in table.index.names else " ---: " for c in flat.columns) + "|",
    ]
    best = _best(table)
    for position, row in enumerate(flat.itertuples(index=False)):
        cells = [_cell(c, v, (position, c) in best) for c, v in zip(flat, row, strict=True)]
        lines.append("| " + " | ".join(cells) + " |")
    notes = [note]
    if undefined := table.attrs.get("undefined"):
        notes.append(
            f"No mean where a value is undefined: {escape_markdown('. '.join(undefined))}."
        )
    markdown = "\n".join([*lines, "", *notes, ""])
    csv_path, md_path = folder / f"{name}.csv", folder / f"{name}.md"
    write_atomically(csv_path, flat.to_csv(index=False, lineterminator="\n").encode())
    write_atomically(md_path, markdown.encode())
    return [csv_path, md_path]


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]|<>&#~$])", r"\\\1", text).replace("\n", " ")


def _cell(column: str, value: object, is_best: bool) -> str:
    if not isinstance(value, float):
        return escape_markdown(str(value))
    if np.isnan(value):
        return "–"
    text = f"{value:.{DECIMALS.get(column, 4)}f}"
    return f"**{text}**" if is_best else text


def _best(table: pd.DataFrame) -> set[tuple[int, str]]:
    """(row, column) of the best method of each dataset, in columns that hold a metric."""
    if "method" not in table.index.names or "dataset" not in table.index.names:
        return set()
    best = set()
    rows = pd.Series(range(len(table)), index=table.index)
    for name in (column for column in table if column in METRICS):
        for _, values in table[name].groupby("dataset", sort=False):
            top = values.max() if METRICS[name].direction == "higher" else values.min()
            if len(values) > 1:
                best |= {(int(rows[key]), name) for key in values.index[values == top]}
    return best
