"""Figure 7 of the paper, the ablation: two scenes side by side, a column for each variant."""

import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from fusionlib.images import luma
from paper.figures import (
    GAP,
    PLAIN,
    STYLE,
    TEXT_WIDTH,
    Scene,
    axes_at,
    heights_of,
    show_detail,
    show_image,
    write_at,
)

GAIN = 5  # of the differences


def side_by_side(
    scenes: Sequence[Scene], columns: Sequence[str], missing: str, width: float = TEXT_WIDTH
) -> Figure:
    """Scenes side by side, as in Figure 7 of the paper; below each method's image its details.

    Two rows are not in the paper: the luma minus that of the last method, times `GAIN`, on
    mid-grey; and the infrared and the visible image.

    Args:
        scenes: the parts from left to right; images are infrared, visible, then one a method.
        columns: titles of all the images.
        missing: stands in the field of an image that is None.
        width: of the figure, inches.

    Raises:
        DatasetError: a region is not inside its image.
    """
    left, top, apart = 0.28, 0.5, 4 * GAP
    part = (width - left - GAP - apart * (len(scenes) - 1)) / len(scenes)
    cell = (part - GAP * (len(columns) - 3)) / (len(columns) - 2)
    details = max(len(scene.zooms) for scene in scenes)
    whole, detail = (max(v) for v in zip(*(heights_of(s, cell, cell) for s in scenes), strict=True))
    source = max(heights_of(scene, (part - GAP) / 2)[0] for scene in scenes)
    rows = [("fused", whole)]
    rows += [(f"detail {i + 1}", detail) for i in range(details)]
    rows += [(f"difference × {GAIN}", whole), ("sources", source)]
    tops = top + np.cumsum([0, *(height + GAP for _, height in rows)])
    with mpl.rc_context(STYLE | PLAIN):
        figure = plt.figure(figsize=(width, tops[-1]))
        for y, (name, height) in zip(tops, rows, strict=False):
            write_at(figure, left * 0.45, y + height / 2, name, rotation=90)
        for i, scene in enumerate(scenes):
            x = left + i * (part + apart)
            write_at(figure, x + part / 2, 0.12, scene.label.replace("\n", " "), fontsize=8)
            for j, title in enumerate(columns[2:]):
                at = x + j * (cell + GAP)
                lines = textwrap.fill(title, 12)
                write_at(figure, at + cell / 2, top - GAP, lines, va="bottom", fontsize=7)
                _draw_column(figure, (at, cell), tops, scene, j, missing)
            _draw_sources(figure, (x, (part - GAP) / 2), tops[-2], scene, columns[:2])
    return figure


def _draw_column(
    figure: Figure, span: tuple[float, float], tops: np.ndarray, scene: Scene, j: int, missing: str
) -> None:
    """Image, details and difference of method j in a part of Figure 7."""
    (x, cell), methods = span, scene.images[2:]
    height, zoomed = heights_of(scene, cell, cell)
    faint = {"fontsize": 6, "color": "0.5"}
    if methods[j] is None:
        write_at(figure, x + cell / 2, tops[0] + height / 2, textwrap.fill(missing, 16), **faint)
        return
    show_image(axes_at(figure, x, tops[0], cell, height), methods[j], scene.zooms)
    for i in range(len(scene.zooms)):
        show_detail(axes_at(figure, x, tops[1 + i], cell, zoomed), methods[j], scene.zooms, i)
    if j == len(methods) - 1:
        write_at(figure, x + cell / 2, tops[-3] + height / 2, "mid-grey:\nas in this one", **faint)
        return
    own, last = (y if y.ndim == 2 else luma(y) for y in (methods[j], methods[-1]))
    show_image(axes_at(figure, x, tops[-3], cell, height), 0.5 + GAIN * (own - last))


def _draw_sources(
    figure: Figure, span: tuple[float, float], top: float, scene: Scene, titles: Sequence[str]
) -> None:
    """Infrared and visible image, side by side below a part of Figure 7."""
    x, wide = span
    for j, title in enumerate(titles):
        axis = axes_at(figure, x + j * (wide + GAP), top, wide, heights_of(scene, wide)[0])
        show_image(axis, scene.images[j], scene.zooms, title)
