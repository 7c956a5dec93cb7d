"""The paper's look: one set of colours and names, and from arrays and tables to figures."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from fusionlib.baselines import METHODS
from fusionlib.metrics import METRICS
from fusionlib.statistics import interval
from paper.reported import OURS, TITLES, title_of

TEXT_WIDTH = 7.1  # inches, both columns of the journal
# what a colour stands for, in drawings and charts alike; apart for every kind of colour vision
INFRARED, VISIBLE, SEMANTIC = "#d55e00", "#0072b2", "#7b4fa3"
SERIES = {"infrared": INFRARED, "visible": VISIBLE}
GROUPS = {"paper": "#c2185b", "additional": "#00855f", "classical": "#6e6e6e"}  # of `Method`
MARKERS = {  # open ones for the methods that anything must beat
    "letter": "D", "DATFuse": "o", "LRRNet": "s", "SeAFusion": "P", "IFCNN": "^", "DIDFuse": "v",
    "TarDAL": "X", "DenseFuse": ">", "SAGE": "<", "average": "o", "maximum": "s", "laplacian": "D",
}  # fmt: skip
PANELS = 4  # side by side
IMAGE_DPI = 200  # of figures with many images
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
PLAIN = {"text.parse_math": False}  # names of methods may hold a dollar
UNDATED = {  # what a file would say about when and by what it was written
    "png": ["Software"],
    "svg": ["Date", "Creator"],
    "pdf": ["CreationDate", "Creator", "Producer"],
}
CURVES = {  # column of the log → label, style
    "loss_grad": ("ℓ_g (eq. 7)", {"color": "#00855f", "lw": 1}),
    "loss_int": ("ℓ_i (eq. 8)", {"color": "#cc79a7", "lw": 1}),
    "loss": ("ℓ_f (eq. 6)", {"color": "0.45", "lw": 1}),
    "val_loss": ("ℓ_f, validation", {"color": "black", "lw": 1.2, "marker": ".", "ms": 4}),
    "val_loss_average": ("the same, averaged weights", {"color": "black", "lw": 1, "ls": ":"}),
}


def look_of(method: str) -> dict[str, object]:
    """Style of a method's point: its group has the colour, itself the marker.

    A method that nobody knows looks like an additional one.
    """
    known = METHODS.get(method)
    group = known.group if known else "additional"
    colour = "black" if method in TITLES else GROUPS[group]
    style = {"color": colour, "marker": MARKERS.get(method, "*"), "ls": "", "ms": 4}
    if group == "classical":  # an open marker
        return style | {"mew": 0.8, "mec": colour, "mfc": "white"}
    return style | {"mew": 0.3, "mec": "white"}


def image_grid(
    rows: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str],
    names: Sequence[str] = (),
    *,
    width: float = TEXT_WIDTH,
) -> Figure:
    """Images in rows and columns.

    Args:
        rows: images, each (H, W) or (H, W, 3) in [0, 1]; the rows may differ in aspect.
        columns: titles above the first row.
        names: labels left of the rows.
        width: of the figure, inches.
    """
    cell = width / len(columns)
    heights = [cell * row[0].shape[0] / row[0].shape[1] for row in rows]
    size = (width, sum(heights) + 0.25)
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(rows), len(columns), figsize=size, height_ratios=heights, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
        for axis, image in zip(axes.flat, itertools.chain(*rows), strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, aspect="auto")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, title in zip(axes[0], columns, strict=True):
            axis.set_title(title)
        for axis, name in zip(axes[:, 0], names, strict=False):
            axis.set_ylabel(name)
    return figure


def paired_differences(values: pd.DataFrame, ranks: pd.Series) -> Figure:
    """One panel a metric: how much each method differs from ours, image by image.

    A point is the mean of method − ours over the images of a dataset, its line the 95 % bootstrap
    interval of that mean. Left of zero ours is better: where lower is, the axis runs backwards.

    Args:
        values: columns ``dataset, name, method, metric, value``.
        ranks: index method; in each dataset the lowest is on top, what has none is left out.
    """
    methods = ranks.drop(OURS).dropna().sort_values(kind="stable").index
    datasets, metrics = values["dataset"].unique(), values["metric"].unique()
    wide = values.pivot(index=["metric", "dataset", "name"], columns="method", values="value")
    columns, band = min(PANELS, len(metrics) + 1), len(methods) + 1
    rows = -(-(len(metrics) + 1) // columns)  # the last place is for the legend
    size = (TEXT_WIDTH, 0.3 + rows * (0.45 + max(1.1, 0.15 * band, 0.08 * band * len(datasets))))
    with mpl.rc_context(STYLE | PLAIN):
        figure, axes = plt.subplots(
            rows, columns, figsize=size, squeeze=False, sharey=True, layout="constrained"
        )
        for metric, axis in zip(metrics, axes.flat, strict=False):
            _draw_metric(axis, wide.loc[metric], datasets, methods)
            is_lower = METRICS[metric].direction == "lower"
            axis.set_title(METRICS[metric].title + ", axis reversed" * is_lower)
            if is_lower:
                axis.invert_xaxis()
        axes[0, 0].set_yticks((np.arange(len(datasets)) + 0.5) * band - 1, datasets, va="center")
        axes[0, 0].set_ylim(len(datasets) * band - 1, -1)
        for axis in axes.flat[len(metrics) :]:
            axis.axis("off")
        handles = [Line2D([], [], label=title_of(m), **look_of(m)) for m in methods]
        axes[-1, -1].legend(handles=handles, loc="center", title="top to bottom, by mean rank")
        figure.supxlabel("method − ours, mean over the images and its 95 % interval; "
                         "left of 0 ours is better", fontsize=8)  # fmt: skip
    return figure


def _draw_metric(
    axis: Axes, of_images: pd.DataFrame, datasets: Sequence[str], methods: Sequence[str]
) -> None:
    """A point and a line a dataset and method; ``of_images`` has a column a method."""
    band = len(methods) + 1
    for i, dataset in enumerate(datasets):
        for row, method in enumerate(methods, i * band):
            change = of_images.loc[dataset, method] - of_images.loc[dataset, OURS]
            mean, low, high, _ = interval(change.to_numpy())
            style = look_of(method)
            axis.plot([low, high], [row, row], color=style["color"], lw=0.8)
            axis.plot(mean, row, **style)
        if i:
            axis.axhline(i * band - 1, color="0.8", lw=0.6)
    axis.axvline(0, color="black", lw=0.8, zorder=0)
    axis.tick_params(axis="y", length=0, labelrotation=90)
    axis.locator_params(axis="x", nbins=4)


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
            bars = pd.DataFrame(series).rename_axis("channel").reset_index()
            sns.barplot(
                bars.melt("channel", var_name="series", value_name=ylabel),
                x="channel", y=ylabel, hue="series", native_scale=True, saturation=1, errorbar=None,
                palette=[SERIES.get(name, "0.4") for name in series], ax=axis,
            )  # fmt: skip
            axis.set(title=title)
            handles, labels = axis.get_legend_handles_labels()
            axis.get_legend().remove()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside right center")
    return figure


def training_curves(logs: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss terms and validation loss against the step, trainings side by side.

    Args:
        logs: title → log with the columns `fusionlib.training.LOG_COLUMNS`.
    """
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(logs), figsize=(TEXT_WIDTH, 2.6), squeeze=False, sharey=True,
            layout="constrained",
        )  # fmt: skip
        for axis, (name, log) in zip(axes[0], logs.items(), strict=True):
            smooth = max(1, len(log) // 50)
            for column, (label, style) in CURVES.items():
                is_rare = column.startswith("val")  # not at every step
                shown = log[column].dropna() if is_rare else log[column].rolling(smooth, 1).mean()
                axis.plot(log["step"][shown.index], shown, label=label, **style)
            axis.set(xlabel=f"step (losses: mean of {smooth})", yscale="log", title=name)
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_locator(NullLocator())
        axes[0, 0].set_ylabel("loss")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(CURVES))
    return figure


def save_figure(
    figure: Figure,
    folder: Path | str,
    name: str,
    formats: Sequence[str] = ("png",),
    *,
    outlines: bool = False,
    dpi: float = STYLE["savefig.dpi"],
) -> list[Path]:
    """Write a figure without dates, so that equal figures are equal files.

    Args:
        figure: what to write.
        folder: where.
        name: file name without suffix.
        formats: ``png`` for images, ``svg`` and ``pdf`` for drawings and charts.
        outlines: draw the letters of an SVG instead of naming their font, so that nothing moves
            where that font is missing.
        dpi: pixels per inch of a ``png``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{suffix}" for suffix in formats]
    with mpl.rc_context(STYLE | ({"svg.fonttype": "path"} if outlines else {})):
        for path, suffix in zip(paths, formats, strict=True):
            figure.savefig(path, metadata=dict.fromkeys(UNDATED[suffix]), dpi=dpi)
    return paths
