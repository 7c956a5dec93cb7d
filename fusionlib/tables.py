"""From the tidy table of per-image values to the tables of the paper."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fusionlib.weights import write_atomically

COLUMNS = ["dataset", "name", "method", "metric", "value"]


def write_values(frame: pd.DataFrame, path: Path | str) -> Path:
    """Write per-image values as CSV: sorted, exact, the same bytes for the same values.

    Args:
        frame: columns `COLUMNS`, one row a value.
        path: target.
    """
    ordered = frame[COLUMNS].sort_values(COLUMNS[:-1], kind="stable")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ordered.to_csv(index=False, lineterminator="\n").encode())
    return path


def mean_table(frame: pd.DataFrame, methods: Sequence[str] | None = None) -> pd.DataFrame:
    """Mean of each metric over the images of a dataset, methods in rows.

    Args:
        frame: columns `COLUMNS`.
        methods: order of the rows; by default that of their appearance.

    Returns:
        Index ``(dataset, n, method)``, a column for each metric. A mean over values of which one
        is missing is missing, too.

    Raises:
        ValueError: the methods were not measured on the same images.
    """
    methods = list(methods or dict.fromkeys(frame["method"]))
    for (dataset, metric), group in frame.groupby(["dataset", "metric"]):
        images = {m: frozenset(g["name"]) for m, g in group.groupby("method")}
        if len(set(images.values())) > 1:
            raise ValueError(f"{dataset}, {metric}: the methods have values for different images")
    sizes = frame.groupby("dataset")["name"].nunique()
    means = frame.groupby(["dataset", "method", "metric"])["value"].agg(
        lambda values: values.mean(skipna=False)
    )
    rows = {
        (dataset, int(sizes[dataset]), method): means[dataset, method]
        for dataset in dict.fromkeys(frame["dataset"])
        for method in methods
        if (dataset, method) in means
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["dataset", "n", "method"])
    return table[list(dict.fromkeys(frame["metric"]))]


def write_table(table: pd.DataFrame, folder: Path | str, name: str, note: str) -> list[Path]:
    """Write a table as CSV (exact) and as Markdown (four decimals, with its note).

    Args:
        table: from `mean_table`.
        folder: where.
        name: file name without suffix.
        note: what was measured on what, with which encoder and weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flat = table.reset_index()
    lines = [
        "| " + " | ".join(map(str, flat.columns)) + " |",
        "|" + "|".join(" --- " if c in table.index.names else " ---: " for c in flat.columns) + "|",
    ]
    for row in flat.itertuples(index=False):
        cells = [f"{v:.4f}" if isinstance(v, float) else str(v).replace("|", "\\|") for v in row]
        lines.append("| " + " | ".join("–" if cell == "nan" else cell for cell in cells) + " |")
    markdown = "\n".join([*lines, "", note, ""])
    csv_path, md_path = folder / f"{name}.csv", folder / f"{name}.md"
    write_atomically(csv_path, flat.to_csv(index=False, lineterminator="\n").encode())
    write_atomically(md_path, markdown.encode())
    return [csv_path, md_path]
