"""From the tidy table of per-image values to tables of means, as CSV and Markdown."""

import re
from collections.abc import Sequence
from pathlib import Path

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
    for (dataset, metric), group in frame.groupby(["dataset", "metric"]):
        if group.groupby("method")["name"].agg(frozenset).nunique() > 1:
            raise ValueError(f"{dataset}, {metric}: the methods have values for different images")
    grouped = frame.groupby(["dataset", "method", "metric"], sort=False)
    means = grouped["value"].agg(lambda values: values.mean(skipna=False)).unstack("metric")
    sizes = frame.groupby("dataset", sort=False)["name"].nunique()
    keys = [
        (dataset, n, method)
        for dataset, n in sizes.items()
        for method in methods or frame["method"].unique()
        if (dataset, method) in means.index
    ]
    table = means.loc[[(dataset, method) for dataset, _, method in keys], frame["metric"].unique()]
    table.index = pd.MultiIndex.from_tuples(keys, names=["dataset", "n", "method"])
    table.attrs["undefined"] = [
        _undefined(key, group) for key, group in grouped if group["value"].isna().any()
    ]
    return table.rename_axis(columns=None)


def _undefined(key: tuple, group: pd.DataFrame) -> str:
    """Why a cell has no mean."""
    missing = group[group["value"].isna()]
    reasons = "; ".join(sorted(set(missing.get("reason", ())) - {""}))
    counts = f"{len(missing)} of {len(group)} values undefined"
    return f"{', '.join(key)}: {counts}" + (f" ({reasons})" if reasons else "")


def find_places(cells: pd.DataFrame, last: int = 3) -> pd.Series:
    """1, 2, 3 for the best of the cells of one dataset, metric and (if there are) kind of row.

    Args:
        cells: columns ``dataset, metric, value`` and perhaps ``row``.
        last: the last place that counts; 0 stands for the others.

    Returns:
        In the order of the cells. Equal values share the better place; a value that has no rival
        and a missing one get none.
    """
    is_lower = cells["metric"].map(lambda name: METRICS[name].direction == "lower")
    signed = cells["value"].where(~is_lower, -cells["value"])
    grouped = signed.groupby([cells[key] for key in ("dataset", "row", "metric") if key in cells])
    ranks = grouped.rank(method="min", ascending=False)
    return ranks.where((ranks <= last) & (grouped.transform("count") > 1), 0).astype(int)


def write_table(table: pd.DataFrame, folder: Path | str, name: str, note: str) -> list[Path]:
    """Write a table as CSV (exact) and as Markdown (rounded, the best bold, with its note).

    Args:
        table: from `mean_table`, or any other; its index becomes columns of text.
        folder: where.
        name: file name without suffix.
        note: what was measured on what, with which encoder and weights.
    """
    flat, best = table.reset_index(), {}
    metrics = [column for column in table if column in METRICS]
    if metrics and {"dataset", "method"} <= set(table.index.names):
        places = find_places(flat.melt(["dataset"], metrics, "metric"), last=1).to_numpy()
        best = dict(zip(metrics, places.reshape(len(metrics), len(flat)), strict=True))
    shown = {
        METRICS[column].title if column in METRICS else escape_markdown(str(column)): [
            _cell(value, DECIMALS.get(column, 4), place)
            for value, place in zip(flat[column], best.get(column, [0] * len(flat)), strict=True)
        ]
        for column in flat
    }
    markdown = f"{to_markdown(pd.DataFrame(shown), table.index.nlevels)}\n\n{note}\n"
    if undefined := table.attrs.get("undefined"):
        reasons = escape_markdown(". ".join(undefined))
        markdown += f"No mean where a value is undefined: {reasons}.\n"
    csv = flat.to_csv(index=False, lineterminator="\n")
    return write_texts(folder, name, {"csv": csv, "md": markdown})


def write_texts(folder: Path | str, name: str, texts: dict[str, str]) -> list[Path]:
    """Write ``<folder>/<name>.<suffix>`` for each suffix and its text."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        write_atomically(folder / f"{name}.{suffix}", text.encode())
    return [folder / f"{name}.{suffix}" for suffix in texts]


def to_markdown(texts: pd.DataFrame, left: int) -> str:
    """A table of texts that are escaped already; all but the first columns are right-aligned."""
    align = ["left"] * left + ["right"] * (texts.shape[1] - left)
    return texts.to_markdown(index=False, disable_numparse=True, colalign=align)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]|<>&#~$])", r"\\\1", text).replace("\n", " ")


def _cell(value: object, decimals: int, place: int) -> str:
    if not isinstance(value, float):
        return escape_markdown(str(value))
    text = "–" if pd.isna(value) else f"{value:.{decimals}f}"
    return f"**{text}**" if place else text
