"""Figures 4 to 7 of the paper: test pairs in rows or side by side, with enlarged details.

``data/zooms.csv`` says which scenes and regions; the paper names neither.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import PIL.Image
import PIL.ImageDraw
from matplotlib.figure import Figure

from fusionlib.datasets import Pair, load_pair
from fusionlib.errors import DatasetError
from fusionlib.files import REPOSITORY
from fusionlib.images import is_grey, luma, read_luma8, replace_luma
from paper.comparison import LEARNED, Entry, Tests, fused_images
from paper.figures import TEXT_WIDTH, image_grid
from paper.reported import OURS, OWN, rivals_printed

ZOOMS = REPOSITORY / "data" / "zooms.csv"
ZOOM_COLOURS = ("#ff4b00", "#00b4ff")  # apart for every kind of colour vision
WIDTH, GAP, LINE = 600, 14, 7  # pixels: of a picture, between its parts, of a frame
LEAST_WIDTH = 0.8  # of a column, inches
GAIN = 5  # of the differences in Figure 7
OTHERS_SHOWN = 6  # columns for other methods; classical ones only fill them up

Image = np.ndarray  # (H, W) or (H, W, 3) in [0, 1]
Picture = np.ndarray  # (H, WIDTH, 3), 8 bits, as it is shown


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


def zoom_grid(scenes: Sequence[Scene], columns: Sequence[str]) -> Figure:
    """Rows of scenes, below each image two of its details, as in Figures 4 to 6 of the paper.

    Args:
        scenes: the rows.
        columns: titles above the first row.

    Raises:
        DatasetError: a region is not inside its image.
    """
    rows = []
    for scene in scenes:
        pictures = [None if image is None else _picture(image, scene) for image in scene.images]
        empty = np.full_like(next(p for p in pictures if p is not None), 255)
        rows.append([empty if picture is None else picture for picture in pictures])
    titles = [textwrap.fill(title, 12) for title in columns]
    return _grid(rows, titles, [scene.label for scene in scenes])


def side_by_side(scenes: Sequence[Scene], columns: Sequence[str], missing: str) -> Figure:
    """Figure 7 of the paper: scenes side by side, a column a variant, details below each image.

    Two things are not in the paper: the luma minus that of the last method, times `GAIN`, on
    mid-grey; and the infrared and the visible image, in the second row.

    Args:
        scenes: the parts from left to right, each with images of the same methods.
        columns: titles of all the images.
        missing: why a method has no image; such a one has no column, and is named below.

    Raises:
        DatasetError: a region is not inside its image.
    """
    shown = [j for j, image in enumerate(scenes[0].images) if j > 1 and image is not None]
    if len(shown) == 1:  # two columns, for two sources
        shown = [1, *shown]
    fused, sources, titles = [], [], []
    for scene in scenes:
        images = [scene.images[j] for j in shown]
        y = [luma(image) if image.ndim == 3 else image for image in images]
        for one, image in zip(y, images, strict=True):
            change = _scaled(0.5 + GAIN * (one - y[-1]), WIDTH)
            fused.append(np.vstack([_picture(image, scene), change]))
        pair = [_picture(image, scene) for image in scene.images[:2]]
        sources += [*pair, *[np.full_like(pair[0], 255)] * (len(shown) - 2)]
        first, *others = (columns[j] for j in shown)
        titles += [f"{scene.label}\n{first}", *others]
    labels = [f"fused; below: minus {columns[-1]}, × {GAIN}", "infrared, visible"]
    figure = _grid([fused, sources], titles, labels)
    if absent := [title for j, title in enumerate(columns) if j > 1 and j not in shown]:
        figure.supxlabel(f"{missing}: {', '.join(absent)}", fontsize=7)
    return figure


def _grid(
    rows: Sequence[Sequence[Picture]], titles: Sequence[str], labels: Sequence[str]
) -> Figure:
    """Pictures with titles and labels, in which a dollar starts no formula; none is stretched."""
    titles, labels = ([text.replace("$", r"\$") for text in texts] for texts in (titles, labels))
    width = max(TEXT_WIDTH, LEAST_WIDTH * len(titles))
    figure = image_grid(rows, titles, labels, width=width)
    high = 1 + max(title.count("\n") for title in titles)
    figure.set_size_inches(width, figure.get_size_inches()[1] + 0.12 * high)
    figure.get_layout_engine().set(h_pad=0.03)
    for axis in figure.axes:
        axis.set(aspect="equal", anchor="N")
    return figure


def _picture(image: Image, scene: Scene) -> Picture:
    """An image with frames of the regions of its scene, and below it these, enlarged."""
    rows, columns = image.shape[:2]
    whole, scale, wide = _scaled(image, WIDTH), WIDTH / columns, (WIDTH - GAP) // 2
    details = []
    for x, y, w, h in scene.zooms:
        if min(x, y) < 0 or min(w, h) < 1 or x + w > columns or y + h > rows:
            raise DatasetError(
                f"{scene.label}: the region {x}, {y}, {w}, {h} (x, y, width, height) is not "
                f"inside its image of {columns}×{rows}; see {ZOOMS.name}"
            )
        details.append(_scaled(image[y : y + h, x : x + w], wide))
    tall = len(details[0]) if details else -GAP  # the regions of a scene are of one shape
    canvas = PIL.Image.new("RGB", (WIDTH, len(whole) + tall + 2 * GAP), "white")
    canvas.paste(PIL.Image.fromarray(whole))
    frames = PIL.ImageDraw.Draw(canvas)
    for i, (detail, region) in enumerate(zip(details, scene.zooms, strict=True)):
        x, y, w, h = (scale * number for number in region)
        left, top = i * (wide + GAP), len(whole) + GAP
        canvas.paste(PIL.Image.fromarray(detail), (left, top))
        for box in ((x, y, x + w, y + h), (left, top, left + wide - 1, top + tall - 1)):
            frames.rectangle(box, outline=ZOOM_COLOURS[i], width=LINE)
    return np.asarray(canvas)


def _scaled(image: Image, width: int) -> Picture:
    """In three channels of 8 bits, so many pixels wide."""
    levels = PIL.Image.fromarray(np.uint8(np.round(255 * image.clip(0, 1)))).convert("RGB")
    return np.asarray(levels.resize((width, round(width * levels.height / levels.width))))
