"""Figures 4 to 7 of the paper: test pairs in rows or side by side, with enlarged details.

``data/zooms.csv`` says which scenes and regions; the paper names neither.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fusionlib.datasets import Pair, load_pair
from fusionlib.errors import DatasetError
from fusionlib.files import REPOSITORY
from fusionlib.images import is_grey, luma, read_luma8, replace_luma
from paper.comparison import LEARNED, Entry, Tests, fused_images
from paper.figures import PLAIN, STYLE, TEXT_WIDTH
from paper.reported import OURS, OWN, rivals_printed

ZOOMS = REPOSITORY / "data" / "zooms.csv"
ZOOM_COLOURS = ("#ff4b00", "#00b4ff")  # apart for every kind of colour vision
GAP = 0.025  # between images, inches
LEAST_WIDTH = 0.8  # of a column, inches
GAIN = 5  # of the differences in Figure 7
OTHERS_SHOWN = 6  # columns for other methods; classical ones only fill them up

Box = tuple[float, float, float, float]  # upper left corner, width and height, inches
Image = np.ndarray  # (H, W) or (H, W, 3) in [0, 1]


@dataclass(frozen=True)
class Scene:
    """A test pair of a figure.

    Attributes:
        label: dataset and name, in two lines.
        images: infrared, visible, then one a method, all of one size; None where there is none.
        zooms: none, or two regions (x, y, width, height) of one shape, in pixels.
    """

    label: str
    images: Sequence[Image | None]
    zooms: Sequence[tuple[int, int, int, int]] = ()

    def heights(self, cell: float, detail: float) -> tuple[float, float]:
        """Of an image ``cell`` wide and of its details, ``detail`` wide, in inches.

        Raises:
            DatasetError: a region is not inside the image.
        """
        rows, columns = next(image.shape[:2] for image in self.images if image is not None)
        for x, y, w, h in self.zooms:
            if min(x, y) < 0 or min(w, h) < 1 or x + w > columns or y + h > rows:
                raise DatasetError(
                    f"{self.label}: the region {x}, {y}, {w}, {h} (x, y, width, height) is not "
                    f"inside its image of {columns}×{rows}; see {ZOOMS.name}"
                )
        zoomed = detail * self.zooms[0][3] / self.zooms[0][2] if self.zooms else 0
        return cell * rows / columns, zoomed


def read_zooms(figure: int) -> dict[tuple[str, str], list[tuple]]:
    """Scenes of a figure of the paper, 4 to 7, and what is enlarged of them.

    Returns:
        (dataset, name) → its two regions (x, y, width, height) in pixels, in the order of `ZOOMS`.
    """
    frame = pd.read_csv(ZOOMS, dtype={"dataset": str, "name": str}, keep_default_na=False)
    scenes = frame[frame["figure"] == figure].groupby(["dataset", "name"], sort=False)
    return {
        scene: list(lines[["x", "y", "width", "height"]].itertuples(index=False, name=None))
        for scene, lines in scenes
    }


def find_scenes(
    entries: Mapping[str, Entry], tests: Tests, figure: int
) -> tuple[list[Scene], list[str]]:
    """Scenes and column titles of a figure of the paper: infrared, visible, the methods.

    A dataset of which no scene of ``data/zooms.csv`` is among the test pairs is shown by its first
    two, without regions. None of its datasets: no scenes.
    """
    zooms, chosen = read_zooms(figure), []
    for dataset in dict.fromkeys(dataset for dataset, _ in zooms):
        pairs = tests.get(dataset, ())
        listed = {(pair.dataset, pair.name): pair for pair in pairs}
        chosen += [listed[key] for key in zooms if key in listed] or list(pairs[:2])
    scenes, shown = [], _shown(entries)
    for pair in chosen:
        label = f"{pair.dataset}\n{pair.name.replace('_', ' ')}"
        images = read_images(shown, pair)
        scenes.append(Scene(label, images, zooms.get((pair.dataset, pair.name), ())))
    return scenes, ["infrared", "visible", *(entry.title for entry in shown)]


def read_images(entries: Sequence[Entry], pair: Pair) -> list[Image | None]:
    """Infrared, visible and fused images of a pair, the latter with the colour of the visible."""
    images = list(load_pair(pair))
    for path in (fused_images(entry, pair.dataset).get(pair.name) for entry in entries):
        y = path and read_luma8(path).astype(np.float32) / 255
        images.append(y if path is None or is_grey(images[1]) else replace_luma(images[1], y))
    return images


def describe_figure(entries: Mapping[str, Entry], scenes: Sequence[Scene]) -> str:
    """Caption of Figures 4 to 6: which columns are the paper's, and which are additional."""
    shown = {entry.name: entry.title for entry in _shown(entries)}
    printed = [*rivals_printed(), OURS]
    groups = {
        "Rows": [scene.label.replace("\n", " ") for scene in scenes],
        "Columns of the paper": ["infrared", "visible", *(n for n in printed if n in shown)],
        "Additional columns": [title for name, title in shown.items() if name not in printed],
        "Columns of the paper, not measured here": [n for n in printed if n not in shown],
    }
    parts = [f"{title}: {'; '.join(names)}." for title, names in groups.items() if names]
    return " ".join([*parts, "The paper names neither scenes nor regions; they are chosen here."])


def _shown(entries: Mapping[str, Entry]) -> list[Entry]:
    """All learned methods, classical ones only while there are few of those; as in the tables."""
    others = [entry.name for entry in entries.values() if entry.name not in OWN]
    learned = [name for name in others if entries[name].group in LEARNED]
    classical = [name for name in others if entries[name].group == "classical"]
    shown = {*OWN, *learned, *classical[: max(0, OTHERS_SHOWN - len(learned))]}
    return [entry for entry in entries.values() if entry.name in shown]


def zoom_grid(
    scenes: Sequence[Scene], columns: Sequence[str], width: float | None = None
) -> Figure:
    """Rows of scenes, below each image two of its details, as in Figures 4 to 6 of the paper.

    Args:
        scenes: the rows.
        columns: titles above the first row.
        width: of the figure, inches; None for the text's, or more where there are many columns.

    Raises:
        DatasetError: a region is not inside its image.
    """
    width = width or max(TEXT_WIDTH, LEAST_WIDTH * len(columns))
    titles = [textwrap.fill(title, 12) for title in columns]
    left, top = 0.28, 0.08 + 0.12 * (1 + max(title.count("\n") for title in titles))
    cell = (width - left) / len(columns) - GAP
    small = (cell - GAP) / 2
    heights = [scene.heights(cell, small) for scene in scenes]
    total = top + sum(sum(pair) + 3 * GAP for pair in heights)
    with mpl.rc_context(STYLE | PLAIN):
        figure, y = plt.figure(figsize=(width, total)), top
        for scene, (height, zoomed) in zip(scenes, heights, strict=True):
            middle = y + (height + zoomed) / 2
            _write(figure, left * 0.45, middle, scene.label, rotation=90, linespacing=1.1)
            for j, image in enumerate(scene.images):
                if image is not None:
                    x, below = left + j * (cell + GAP), y + height + GAP
                    _show(figure, (x, y, cell, height), image, scene.zooms)
                    for i in range(len(scene.zooms)):
                        at = (x + i * (small + GAP), below, small, zoomed)
                        _show_detail(figure, at, image, scene, i)
            y += height + zoomed + 3 * GAP
        for j, title in enumerate(titles):
            x = left + j * (cell + GAP) + cell / 2
            _write(figure, x, top - GAP, title, va="bottom", fontsize=7)
    return figure


def side_by_side(
    scenes: Sequence[Scene], columns: Sequence[str], missing: str, width: float = TEXT_WIDTH
) -> Figure:
    """Figure 7 of the paper: scenes side by side, a column a variant, details below each image.

    Two rows are not in the paper: the luma minus that of the last method, times `GAIN`, on
    mid-grey; and the infrared and the visible image.

    Args:
        scenes: the parts from left to right, each with images of the same methods.
        columns: titles of all the images.
        missing: why a method has no image; such a one has no column, and is named below.
        width: of the figure, inches.

    Raises:
        DatasetError: a region is not inside its image.
    """
    shown = [j for j, image in enumerate(scenes[0].images) if j > 1 and image is not None]
    left, top, apart = 0.62, 0.36, 4 * GAP
    part = (width - left - GAP - apart * (len(scenes) - 1)) / len(scenes)
    cell, wide = ((part + GAP) / count - GAP for count in (len(shown), 2))
    heights = [scene.heights(cell, cell) for scene in scenes]
    whole, detail = (max(sizes) for sizes in zip(*heights, strict=True))
    rows = {"fused": whole, "detail 1": detail, "detail 2": detail}
    rows |= {f"minus\n{columns[-1]},\n× {GAIN}": whole, "sources": whole * wide / cell}
    y, tops = top, []
    with mpl.rc_context(STYLE | PLAIN):
        figure = plt.figure(figsize=(width, top + sum(rows.values()) + 5 * GAP + 0.15))
        for name, height in rows.items():
            tops.append(y)
            _write(figure, left - 0.08, y + height / 2, name, ha="right", fontsize=7)
            y += height + GAP
        for i, scene in enumerate(scenes):
            x = left + i * (part + apart)
            _write(figure, x + part / 2, 0.1, scene.label.replace("\n", " "), fontsize=8)
            for j, k in enumerate(shown):
                at = x + j * (cell + GAP)
                _write(figure, at + cell / 2, top - GAP, columns[k], va="bottom", fontsize=7)
                _draw_variant(figure, (at, cell), tops, scene, k)
            for j in (0, 1):
                box = (x + j * (wide + GAP), tops[-1], wide, scene.heights(wide, wide)[0])
                _show(figure, box, scene.images[j], scene.zooms, columns[j])
        if absent := [title for j, title in enumerate(columns) if j > 1 and j not in shown]:
            _write(figure, left, y + 0.05, f"{missing}: {', '.join(absent)}", ha="left")
    return figure


def _draw_variant(
    figure: Figure, span: tuple[float, float], tops: Sequence[float], scene: Scene, k: int
) -> None:
    """Image k of a part of Figure 7, its details, and how it differs from the last."""
    (x, cell), own, last = span, scene.images[k], scene.images[-1]
    height, zoomed = scene.heights(cell, cell)
    _show(figure, (x, tops[0], cell, height), own, scene.zooms)
    for i in range(len(scene.zooms)):
        _show_detail(figure, (x, tops[1 + i], cell, zoomed), own, scene, i)
    if k < len(scene.images) - 1:
        own, last = (image if image.ndim == 2 else luma(image) for image in (own, last))
        _show(figure, (x, tops[3], cell, height), 0.5 + GAIN * (own - last))
    else:
        at = (x + cell / 2, tops[3] + height / 2)
        _write(figure, *at, "mid-grey:\nno difference", color="0.4")


def _write(figure: Figure, x: float, y: float, text: str, **style: object) -> None:
    """Text around a point, inches from the upper left corner."""
    width, height = figure.get_size_inches()
    style = {"ha": "center", "va": "center", "fontsize": 6.5} | style
    figure.text(x / width, 1 - y / height, text, **style)


def _show(figure: Figure, box: Box, image: Image, zooms: Sequence = (), title: str = ""):
    """An image in a box with frames of regions in it, and a title in its corner."""
    width, height = figure.get_size_inches()
    x, y, w, h = box
    axis = figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, aspect="auto")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    for colour, (x, y, w, h) in zip(ZOOM_COLOURS, zooms, strict=False):
        axis.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, fill=False, ec=colour, lw=0.8))
    if title:
        label = {"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1.5}
        axis.text(0.02, 0.03, title, transform=axis.transAxes, fontsize=7, bbox=label)
    return axis


def _show_detail(figure: Figure, box: Box, image: Image, scene: Scene, i: int) -> None:
    """Region i of an image of a scene, with its coloured frame."""
    x, y, w, h = scene.zooms[i]
    spines = _show(figure, box, image[y : y + h, x : x + w]).spines
    spines[:].set(visible=True, color=ZOOM_COLOURS[i], linewidth=1)
