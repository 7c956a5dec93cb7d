"""The paper's look: from arrays and tables to figures, and from figures to files."""

import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fusionlib.errors import DatasetError
from fusionlib.files import REPOSITORY
from fusionlib.metrics import METRICS

TEXT_WIDTH = 7.1  # inches, both columns of the journal
BOX_COLUMNS = 4  # panels side by side
BOXES = 12  # in such a panel; with more of them, two panels side by side
ZOOMS = REPOSITORY / "data" / "zooms.csv"
ZOOM_COLUMNS = ["figure", "dataset", "name", "x", "y", "width", "height"]
ZOOM_COLOURS = ("#ff4b00", "#00b4ff")  # apart for every kind of colour vision
IMAGE_DPI = 200  # of figures with many images
GAP = 0.025  # between images, inches
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
CURVES = {"loss": "ℓ_f (eq. 6)", "loss_grad": "ℓ_g (eq. 7)", "loss_int": "ℓ_i (eq. 8)"}
VALIDATION_CURVES = {
    "val_loss": ("k.-", "ℓ_f, validation"),
    "val_loss_average": ("k.:", "the same, averaged weights"),
}

Box = tuple[float, float, float, float]  # upper left corner, width and height, inches


def image_grid(
    rows: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str],
    names: Sequence[str] = (),
    *,
    width: float = TEXT_WIDTH,
    cmap: str = "gray",
    limits: tuple[float, float] | None = (0, 1),
) -> Figure:
    """Images in rows and columns.

    Args:
        rows: images, each (H, W) or (H, W, 3) in [0, 1]; the rows may differ in aspect.
        columns: titles above the first row.
        names: labels left of the rows.
        width: of the figure, inches.
        cmap: colours of (H, W) images.
        limits: values at the ends of the colours; None for each image its own.
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
        low, high = limits or (None, None)
        for axis, image in zip(axes.flat, itertools.chain(*rows), strict=True):
            axis.imshow(image, cmap=cmap, vmin=low, vmax=high, aspect="auto")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, title in zip(axes[0], columns, strict=True):
            axis.set_title(title)
        for axis, name in zip(axes[:, 0], names, strict=False):
            axis.set_ylabel(name)
    return figure


@dataclass(frozen=True)
class Scene:
    """A row of a figure with enlarged details.

    Attributes:
        label: left of it.
        images: one a column, each (H, W) or (H, W, 3) in [0, 1], all of one size; None where
            there is none.
        zooms: none, or two regions (x, y, width, height) of one shape, in pixels.
    """

    label: str
    images: Sequence[np.ndarray | None]
    zooms: Sequence[tuple[int, int, int, int]] = ()


def read_zooms(figure: int, path: Path | str = ZOOMS) -> dict[tuple[str, str], list[tuple]]:
    """Scenes of a figure of the paper, and what is enlarged of them.

    Args:
        figure: 4, 5, 6, …
        path: CSV with the columns `ZOOM_COLUMNS`, two lines a scene, in pixels.

    Returns:
        (dataset, name) → its two regions (x, y, width, height), in the order of the file.
    """
    frame = pd.read_csv(path, dtype={"dataset": str, "name": str}, keep_default_na=False)
    scenes = frame[frame["figure"] == figure].groupby(["dataset", "name"], sort=False)
    return {
        scene: list(lines[ZOOM_COLUMNS[3:]].itertuples(index=False, name=None))
        for scene, lines in scenes
    }


def zoom_grid(scenes: Sequence[Scene], columns: Sequence[str], width: float = TEXT_WIDTH) -> Figure:
    """Rows of scenes, below each image two of its details, as in Figures 4 to 7 of the paper.

    Args:
        scenes: the rows.
        columns: titles above the first row.
        width: of the figure, inches.

    Raises:
        DatasetError: a region is not inside its image.
    """
    titles = [textwrap.fill(title, 12) for title in columns]
    left, top = 0.28, 0.08 + 0.12 * (1 + max(title.count("\n") for title in titles))
    cell = (width - left) / len(columns) - GAP
    small = (cell - GAP) / 2
    heights = [heights_of(scene, cell, small) for scene in scenes]
    total = top + sum(sum(pair) + 3 * GAP for pair in heights)
    with mpl.rc_context(STYLE | PLAIN):
        figure, y = plt.figure(figsize=(width, total)), top
        for scene, (height, zoomed) in zip(scenes, heights, strict=True):
            middle = y + (height + zoomed) / 2
            write_at(figure, left * 0.45, middle, scene.label, rotation=90, linespacing=1.1)
            for j, image in enumerate(scene.images):
                if image is None:
                    continue
                x, below = left + j * (cell + GAP), y + height + GAP
                show_image(figure, (x, y, cell, height), image, scene.zooms)
                for i, zoom in enumerate(scene.zooms):
                    at = (x + i * (small + GAP), below, small, zoomed)
                    show_detail(figure, at, image, zoom, ZOOM_COLOURS[i])
            y += height + zoomed + 3 * GAP
        for j, title in enumerate(titles):
            x = left + j * (cell + GAP) + cell / 2
            write_at(figure, x, top - GAP, title, va="bottom", fontsize=7)
    return figure


def heights_of(scene: Scene, cell: float, detail: float) -> tuple[float, float]:
    """Heights of an image ``cell`` wide and of its details, ``detail`` wide, in inches."""
    rows, columns = next(image.shape[:2] for image in scene.images if image is not None)
    for x, y, w, h in scene.zooms:
        if min(x, y) < 0 or min(w, h) < 1 or x + w > columns or y + h > rows:
            raise DatasetError(
                f"{scene.label}: the region {x}, {y}, {w}, {h} (x, y, width, height) is not inside "
                f"its image of {columns}×{rows}; see {ZOOMS.name}"
            )
    zoomed = detail * scene.zooms[0][3] / scene.zooms[0][2] if scene.zooms else 0
    return cell * rows / columns, zoomed


def write_at(figure: Figure, x: float, y: float, text: str, **style: object) -> None:
    """Text around a point, inches from the upper left corner."""
    width, height = figure.get_size_inches()
    style = {"ha": "center", "va": "center", "fontsize": 6.5} | style
    figure.text(x / width, 1 - y / height, text, **style)


def _show(figure: Figure, box: Box, image: np.ndarray) -> Axes:
    width, height = figure.get_size_inches()
    x, y, w, h = box
    axis = figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, aspect="auto")
    axis.set(xticks=[], yticks=[])
    return axis


def show_image(figure: Figure, box: Box, image: np.ndarray, zooms=(), title: str = "") -> None:
    """An image in a box (inches) with frames in it, and a title in its corner."""
    axis = _show(figure, box, image)
    axis.spines[:].set_visible(False)
    for colour, (x, y, w, h) in zip(ZOOM_COLOURS, zooms, strict=False):
        axis.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, fill=False, ec=colour, lw=0.8))
    if title:
        label = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1.5}
        axis.text(0.02, 0.03, title, transform=axis.transAxes, fontsize=7, bbox=label)


def show_detail(figure: Figure, box: Box, image: np.ndarray, zoom: tuple, colour: str) -> None:
    """A region (x, y, width, height) of an image in a box (inches) with a coloured frame."""
    x, y, w, h = zoom
    spines = _show(figure, box, image[y : y + h, x : x + w]).spines
    spines[:].set(visible=True, color=colour, linewidth=1)


def panels(
    metrics: Sequence[str], columns: int, heights: tuple[float, float], **shared: bool
) -> tuple[Figure, dict[str, Axes]]:
    """Empty axes, one a metric, row by row.

    Args:
        metrics: what to name them.
        columns: at most so many side by side.
        heights: of what all rows have in common, and of one row, inches.
        shared: ``sharex`` and ``sharey`` of `matplotlib.pyplot.subplots`.
    """
    columns = min(max(1, len(metrics)), columns)
    rows = max(1, -(-len(metrics) // columns))
    size = (TEXT_WIDTH, heights[0] + rows * heights[1])
    figure, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained", **shared
    )
    for axis in axes.flat[len(metrics) :]:
        axis.remove()
    return figure, dict(zip(metrics, axes.flat, strict=False))


def metric_boxes(frame: pd.DataFrame) -> Figure:
    """One panel a metric: the per-image values of every method in every dataset.

    Args:
        frame: columns ``dataset, name, method, metric, value``.
    """
    methods = frame["method"].nunique()
    palette = sns.color_palette("colorblind" if methods <= 10 else "husl", methods)
    is_crowded = methods * frame["dataset"].nunique() > BOXES
    columns = BOX_COLUMNS // 2 if is_crowded else BOX_COLUMNS
    with mpl.rc_context(STYLE | PLAIN):
        figure, axes = panels(frame["metric"].unique(), columns, (0.4, 2.1))
        for metric, axis in axes.items():
            sns.boxplot(
                frame[frame["metric"] == metric], x="dataset", y="value", hue="method",
                palette=palette, fliersize=1.5, linewidth=0.6, ax=axis,
            )  # fmt: skip
            title = METRICS[metric].title if metric in METRICS else metric
            axis.set(xlabel="", ylabel="", title=title)
            axis.tick_params(axis="x", labelrotation=30)
        _share_legend(figure, "lower", 7)
    return figure


def rank_plot(summary: pd.DataFrame, ours: str = "ours") -> Figure:
    """One panel a metric: the mean rank of every method in every dataset, 1 is best.

    Args:
        summary: from `fusionlib.statistics.summarise`; methods without rank are left out.
        ours: the method that is set apart.
    """
    ranked = summary.dropna(subset="rank")
    methods = ranked.groupby("method")["rank"].mean().sort_values(kind="stable").index
    datasets = ranked["dataset"].unique()
    with mpl.rc_context(STYLE | PLAIN):
        heights = (0.5, 0.45 + 0.16 * len(methods))
        figure, axes = panels(
            ranked["metric"].unique(), BOX_COLUMNS, heights, sharex=True, sharey=True
        )
        for metric, axis in axes.items():
            sns.stripplot(
                ranked[ranked["metric"] == metric], x="rank", y="method", hue="dataset",
                order=methods, hue_order=datasets, palette="colorblind", jitter=False, size=4.5,
                alpha=0.9, ax=axis,
            )  # fmt: skip
            if ours in methods:
                row = methods.get_loc(ours)
                axis.axhspan(row - 0.5, row + 0.5, color="0.92", zorder=0)
            axis.set(xlabel="", ylabel="", title=METRICS[metric].symbol)
            axis.grid(axis="x", lw=0.4, color="0.85")
            axis.tick_params(labelbottom=True)  # also above a place without panel
        figure.supxlabel("mean rank over images, 1 is best", fontsize=8)
        _share_legend(figure, "upper" if len(datasets) > 1 else "", len(datasets))
    return figure


def _share_legend(figure: Figure, side: str, columns: int) -> None:
    """One legend at a side of the figure, or none, in place of those of its axes."""
    for axis in figure.axes:
        axis.get_legend().remove()
    if side:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        columns = min(len(labels), columns)
        figure.legend(handles, labels, loc=f"outside {side} center", ncols=columns)


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
        for column, label in CURVES.items():
            left.plot(log["step"], log[column].rolling(smooth, 1).mean(), label=label, lw=1)
        for column, (line, label) in VALIDATION_CURVES.items():
            if column in log and log[column].notna().any():
                held_out = log.dropna(subset=column)
                left.plot(held_out["step"], held_out[column], line, label=label, lw=1)
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
