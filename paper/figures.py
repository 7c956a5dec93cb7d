"""The paper's look: from arrays and tables to figures, and from figures to files."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
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
LOOK = {"cmap": "gray", "vmin": 0, "vmax": 1, "aspect": "auto"}
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


def image_grid(
    rows: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str],
    names: Sequence[str] | None = None,
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
                axes[i, j].imshow(image, cmap=cmap, vmin=low, vmax=high, aspect="auto")
                axes[i, j].set(xticks=[], yticks=[])
                axes[i, j].spines[:].set_visible(False)
        for axis, title in zip(axes[0], columns, strict=True):
            axis.set_title(title)
        for axis, name in zip(axes[:, 0], names or (), strict=False):
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

    Raises:
        DatasetError: not such a file; or not two regions of one shape for a scene.
    """
    kinds = {name: str if name in ("dataset", "name") else int for name in ZOOM_COLUMNS}
    try:
        frame = pd.read_csv(path, dtype=kinds, keep_default_na=False)[ZOOM_COLUMNS]
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{path}: not a table of regions ({error})") from error
    scenes = {}
    for scene, lines in frame[frame["figure"] == figure].groupby(["dataset", "name"], sort=False):
        scenes[scene] = list(lines[ZOOM_COLUMNS[3:]].itertuples(index=False, name=None))
        if len(lines) != 2 or len({region[2:] for region in scenes[scene]}) != 1:
            raise DatasetError(f"{path}: {' '.join(scene)} needs two regions of one shape")
    return scenes


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
    heights = [heights_of(scene, cell) for scene in scenes]
    total = top + sum(sum(pair) + 3 * GAP for pair in heights)
    with mpl.rc_context(STYLE | PLAIN):
        figure = plt.figure(figsize=(width, total))
        y = top
        for scene, (height, zoomed) in zip(scenes, heights, strict=True):
            middle = y + (height + zoomed) / 2
            write_at(figure, left * 0.45, middle, scene.label, rotation=90, linespacing=1.1)
            for j, image in enumerate(scene.images):
                if image is not None:
                    x = left + j * (cell + GAP)
                    show_image(axes_at(figure, x, y, cell, height), image, scene.zooms)
                    small = (cell - GAP) / 2
                    for i in range(len(scene.zooms)):
                        axis = axes_at(
                            figure, x + i * (small + GAP), y + height + GAP, small, zoomed
                        )
                        show_detail(axis, image, scene.zooms, i)
            y += height + zoomed + 3 * GAP
        for j, title in enumerate(titles):
            x = left + j * (cell + GAP) + cell / 2
            write_at(figure, x, top - GAP, title, va="bottom", fontsize=7)
    return figure


def heights_of(scene: Scene, cell: float, detail: float = 0) -> tuple[float, float]:
    """Of an image ``cell`` wide and of its details (0: two fit side by side below it), inches."""
    rows, columns = next(image.shape[:2] for image in scene.images if image is not None)
    for x, y, w, h in scene.zooms:
        if min(x, y) < 0 or min(w, h) < 1 or x + w > columns or y + h > rows:
            raise DatasetError(
                f"{scene.label}: the region {x}, {y}, {w}, {h} (x, y, width, height) is not inside "
                f"its image of {columns}×{rows}; see {ZOOMS.name}"
            )
    wide = detail or (cell - GAP) / 2
    zoomed = wide * scene.zooms[0][3] / scene.zooms[0][2] if scene.zooms else 0
    return cell * rows / columns, zoomed


def axes_at(figure: Figure, x: float, y: float, w: float, h: float) -> plt.Axes:
    """Empty axes by their upper left corner, inches."""
    width, height = figure.get_size_inches()
    axis = figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))
    axis.set(xticks=[], yticks=[])
    return axis


def write_at(figure: Figure, x: float, y: float, text: str, **style: object) -> None:
    """Text around a point, inches from the upper left corner."""
    width, height = figure.get_size_inches()
    where = {"ha": "center", "va": "center", "fontsize": 6.5} | style
    figure.text(x / width, 1 - y / height, text, **where)


def show_image(axis: plt.Axes, image: np.ndarray, zooms=(), title: str = "") -> None:
    """An image with frames in it, and a title in its corner."""
    axis.imshow(image, **LOOK)
    axis.spines[:].set_visible(False)
    for colour, (x, y, w, h) in zip(ZOOM_COLOURS, zooms, strict=False):
        axis.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, fill=False, ec=colour, lw=0.8))
    if title:
        box = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1.5}
        axis.text(0.02, 0.03, title, transform=axis.transAxes, fontsize=7, bbox=box)


def show_detail(axis: plt.Axes, image: np.ndarray, zooms, i: int) -> None:
    """What frame i frames."""
    x, y, w, h = zooms[i]
    axis.imshow(image[y : y + h, x : x + w], **LOOK)
    axis.spines[:].set(visible=True, color=ZOOM_COLOURS[i], linewidth=1)


def metric_boxes(frame: pd.DataFrame) -> Figure:
    """One panel a metric: the per-image values of every method in every dataset.

    Args:
        frame: columns ``dataset, name, method, metric, value``.
    """
    metrics = list(dict.fromkeys(frame["metric"]))
    methods = frame["method"].nunique()
    is_crowded = methods * frame["dataset"].nunique() > BOXES
    columns = min(len(metrics), BOX_COLUMNS // 2 if is_crowded else BOX_COLUMNS)
    rows = -(-len(metrics) // columns)
    with mpl.rc_context(STYLE | PLAIN):
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
                palette=_palette(methods),
                fliersize=1.5,
                linewidth=0.6,
                ax=axis,
            )
            title = METRICS[metric].title if metric in METRICS else metric
            axis.set(xlabel="", ylabel="", title=title)
            axis.tick_params(axis="x", labelrotation=30)
            axis.get_legend().remove()
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 7))
    return figure


def _palette(count: int) -> list:
    return sns.color_palette("colorblind" if count <= 10 else "husl", count)


def rank_plot(summary: pd.DataFrame, ours: str = "ours") -> Figure:
    """One panel a metric: the mean rank of every method in every dataset, 1 is best.

    Args:
        summary: from `fusionlib.statistics.summarise`; methods without rank are left out.
        ours: the method that is set apart.
    """
    ranked = summary.dropna(subset="rank")
    metrics = list(dict.fromkeys(ranked["metric"]))
    methods = ranked.groupby("method")["rank"].mean().sort_values(kind="stable").index
    datasets = list(dict.fromkeys(ranked["dataset"]))
    columns = min(max(1, len(metrics)), BOX_COLUMNS)  # one where nothing could be ranked
    rows = max(1, -(-len(metrics) // columns))
    with mpl.rc_context(STYLE | PLAIN):
        figure, axes = plt.subplots(
            rows, columns, figsize=(TEXT_WIDTH, 0.5 + rows * (0.45 + 0.16 * len(methods))),
            squeeze=False, sharex=True, sharey=True, layout="constrained",
        )  # fmt: skip
        for axis in axes.flat[len(metrics) :]:
            axis.remove()
        for axis, metric in zip(axes.flat, metrics, strict=False):
            values = ranked[ranked["metric"] == metric]
            sns.stripplot(
                values, x="rank", y="method", hue="dataset", order=methods, hue_order=datasets,
                palette="colorblind", jitter=False, size=4.5, alpha=0.9, ax=axis,
            )  # fmt: skip
            if ours in methods:
                axis.axhspan(
                    *(methods.get_loc(ours) + d for d in (-0.5, 0.5)), color="0.92", zorder=0
                )
            axis.set(xlabel="", ylabel="", title=METRICS[metric].symbol)
            axis.grid(axis="x", lw=0.4, color="0.85")
            axis.tick_params(labelbottom=True)  # also above a place without panel
            axis.get_legend().remove()
        figure.supxlabel("mean rank over images, 1 is best", fontsize=8)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
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
            ("loss", "ℓ_f (eq. 6)"),
            ("loss_grad", "ℓ_g (eq. 7)"),
            ("loss_int", "ℓ_i (eq. 8)"),
        ):
            left.plot(log["step"], log[column].rolling(smooth, 1).mean(), label=label, lw=1)
        for column, look, label in (
            ("val_loss", "k.-", "ℓ_f, validation"),
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
            figure.savefig(path, metadata=undated[suffix], dpi=dpi)
            paths.append(path)
    return paths
