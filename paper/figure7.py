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
    ZOOM_COLOURS,
    Scene,
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
    cell, wide = (part - GAP * (len(columns) - 3)) / (len(columns) - 2), (part - GAP) / 2
    details = max(len(scene.zooms) for scene in scenes)
    whole, detail = (max(h) for h in zip(*(heights_of(s, cell, cell) for s in scenes), strict=True))
    rows = [("fused", whole), *((f"detail {i + 1}", detail) for i in range(details))]
    rows += [(f"difference × {GAIN}", whole)]
    rows += [("sources", max(heights_of(scene, wide, wide)[0] for scene in scenes))]
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
            for j, title in enumerate(columns[:2]):
                box = (x + j * (wide + GAP), tops[-2], wide, heights_of(scene, wide, wide)[0])
                show_image(figure, box, scene.images[j], scene.zooms, title)
    return figure


def _draw_column(
    figure: Figure, span: tuple[float, float], tops: np.ndarray, scene: Scene, j: int, missing: str
) -> None:
    """Image, details and difference of method j in a part of Figure 7."""
    (x, cell), methods = span, scene.images[2:]
    own, last = methods[j], methods[-1]
    height, zoomed = heights_of(scene, cell, cell)
    faint = {"fontsize": 6, "color": "0.5"}
    if own is None:
        write_at(figure, x + cell / 2, tops[0] + height / 2, textwrap.fill(missing, 16), **faint)
        return
    show_image(figure, (x, tops[0], cell, height), own, scene.zooms)
    for y, zoom, colour in zip(tops[1:], scene.zooms, ZOOM_COLOURS, strict=False):
        show_detail(figure, (x, y, cell, zoomed), own, zoom, colour)
    if j == len(methods) - 1:
        write_at(figure, x + cell / 2, tops[-3] + height / 2, "mid-grey:\nas in this one", **faint)
        return
    own, last = (image if image.ndim == 2 else luma(image) for image in (own, last))
    show_image(figure, (x, tops[-3], cell, height), 0.5 + GAIN * (own - last))
