"""The paper's look: from arrays and tables to figures, and from figures to files."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from fusionlib.metrics import METRICS

TEXT_WIDTH = 7.1  # inches, both columns of the journal
BOX_COLUMNS = 4  # panels side by side
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine has it
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "fusionlib",  # otherwise ids in SVG files are random
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "savefig.dpi": 150,
    "figure.dpi": 100,
}


def image_grid(
    rows: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str],
    names: Sequence[str] | None = None,
    *,
    width: float = TEXT_WIDTH,
    cmap: str = "gray",
    limits: tuple[float, float] | None = (0, 1),
) -> Figure:
    """Images in rows and columns, as in Figures 4 to 7 of the paper.

    Args:
        rows: images, each (H, W) or (H, W, 3) in [0, 1]; the rows may differ in aspect.
        columns: titles above the first row.
        names: labels left of the rows.
        width: of the figure, inches.
        cmap: colours of (H, W) images.
        limits: values at the ends of the colours; None for each image its own.

    Returns:
        The figure.
    """
    cell = width / len(columns)
    heights = [cell * row[0].shape[0] / row[0].shape[1] for row in rows]
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(rows),
            len(columns),
            figsize=(width, sum(heights) + 0.25),
            height_ratios=heights,
            squeeze=False,
            layout="constrained",
        )
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
        low, high = limits or (None, None)
        for i, row in enumerate(rows):
            for j, image in enumerate(row):
                axis = axes[i, j]
                axis.imshow(image, cmap=cmap, vmin=low, vmax=high, aspect="auto")
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
                if i == 0:
                    axis.set_title(columns[j])
            if names:
                axes[i, 0].set_ylabel(names[i])
    return figure


def metric_boxes(frame: pd.DataFrame) -> Figure:
    """One panel a metric: the per-image values of every method in every dataset.

    Args:
        frame: columns ``dataset, name, method, metric, value``.
    """
    metrics = list(dict.fromkeys(frame["metric"]))
    columns = min(len(metrics), BOX_COLUMNS)
    rows = -(-len(metrics) // columns)
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(TEXT_WIDTH, 0.4 + 2.1 * rows),
            squeeze=False,
            layout="constrained",
        )
        for axis in axes.flat[len(metrics) :]:
            axis.remove()
        for axis, metric in zip(axes.flat, metrics, strict=False):
            values = frame[frame["metric"] == metric]
            sns.boxplot(
                values,
                x="dataset",
                y="value",
                hue="method",
                palette="colorblind",
                fliersize=2,
                linewidth=0.7,
                ax=axis,
            )
            title = METRICS[metric].title if metric in METRICS else metric
            axis.set(xlabel="", ylabel="", title=title)
            axis.tick_params(axis="x", labelrotation=30)
            axis.get_legend().remove()
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def channel_bars(panels: dict[str, dict[str, np.ndarray]], ylabel: str) -> Figure:
    """One value for each channel, as bars side by side.

    Args:
        panels: title of a panel → name of a series → its values, (C,).
        ylabel: what they are.
    """
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(TEXT_WIDTH, 1.8), squeeze=False, sharey=True,
            layout="constrained",
        )  # fmt: skip
        for axis, (title, series) in zip(axes[0], panels.items(), strict=True):
            width = 0.8 / len(series)
            for i, (name, values) in enumerate(series.items()):
                axis.bar(np.arange(len(values)) + i * width, values, width, label=name)
            axis.set(title=title, xlabel="channel")
        axes[0, 0].set_ylabel(ylabel)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside right center")
    return figure


def training_curves(log: pd.DataFrame, title: str = "") -> Figure:
    """Loss terms, validation loss and learning rate against the step.

    Args:
        log: columns of `fusionlib.training.LOG_COLUMNS`.
        title: above the left panel.
    """
    smooth = max(1, len(log) // 50)
    with mpl.rc_context(STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(TEXT_WIDTH, 2.5), width_ratios=(3, 1), layout="constrained"
        )
        for column, label in (
            ("loss", "L (eq. 8)"),
            ("loss_int", "L_int (eq. 6)"),
            ("loss_grad", "L_grad (eq. 7)"),
        ):
            left.plot(log["step"], log[column].rolling(smooth, 1).mean(), label=label, lw=1)
        for column, look, label in (
            ("val_loss", "k.-", "L, validation"),
            ("val_loss_average", "k.:", "the same, averaged weights"),
        ):
            if column in log and log[column].notna().any():
                held_out = log.dropna(subset=column)
                left.plot(held_out["step"], held_out[column], look, label=label, lw=1)
        left.set(xlabel="step", ylabel=f"mean of {smooth} steps", yscale="log", title=title)
        figure.legend(loc="outside lower center", ncols=3)  # inside it hides curves
        right.plot(log["step"], log["lr"], color="0.3", lw=1)
        right.set(xlabel="step", title="learning rate")
    return figure


def save_figure(
    figure: Figure,
    folder: Path | str,
    name: str,
    formats: Sequence[str] = ("png",),
    *,
    outlines: bool = False,
) -> list[Path]:
    """Write a figure without dates, so that equal figures are equal files.

    Args:
        figure: what to write.
        folder: where.
        name: file name without suffix.
        formats: ``png`` for images, ``svg`` and ``pdf`` for drawings and charts.
        outlines: draw the letters of an SVG instead of naming their font, so that nothing moves
            where that font is missing.
    """
    undated = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with mpl.rc_context(STYLE | ({"svg.fonttype": "path"} if outlines else {})):
        for suffix in formats:
            path = folder / f"{name}.{suffix}"
            figure.savefig(path, metadata=undated[suffix])
            paths.append(path)
    return paths
