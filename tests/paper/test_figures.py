import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image
from scenes import read_scene

from fusionlib.datasets import DATASETS, SYNTHETIC
from fusionlib.errors import DatasetError
from fusionlib.splits import read_split
from fusionlib.training import LOG_COLUMNS
from paper import figure7, figures

VALUES = ["dataset", "name", "method", "metric", "value"]
ZOOMS = ((8, 4, 16, 12), (40, 30, 16, 12))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def boxes(methods=("average", "ours"), metrics=("ag", "qcv", "sharpness")):
    rows = [(d, i, m, k, 1.0 * i) for d in "AB" for i in range(5) for m in methods for k in metrics]
    return figures.metric_boxes(pd.DataFrame(rows, columns=VALUES))


def assert_apart_and_inside(figure):
    """Nothing is cut off, and no image or text covers another."""
    figure.draw_without_rendering()
    boxes = [part.get_window_extent() for part in (*figure.axes, *figure.texts)]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_equal_figures_are_equal_files(tmp_path, suffix):
    one, two = (figures.save_figure(boxes(), tmp_path / n, "chart", (suffix,))[0] for n in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_a_grid_shows_grey_images_unstretched_and_keeps_their_aspect(tmp_path):
    images = [np.full((30, 60), level) for level in (0.25, 0.5)]
    figure = figures.image_grid([images], ("a", "b"), width=4)
    path = figures.save_figure(figure, tmp_path, "grid")[0]
    pixels = np.asarray(Image.open(path).convert("L")).astype(int)
    middle = pixels[int(pixels.shape[0] * 0.7)]
    assert abs(middle[len(middle) // 4] - 64) <= 1 and abs(middle[3 * len(middle) // 4] - 128) <= 1
    box = figure.axes[0].get_window_extent()
    assert box.width / box.height == pytest.approx(2, rel=0.1)


def test_curves_show_the_validation_only_where_there_is_one():
    log = pd.DataFrame(
        [(i, 1e-3, 1.0, 0.5, 2.0, *([0.7, 0.6] if i == 5 else [np.nan] * 2)) for i in range(10)],
        columns=LOG_COLUMNS,
    )
    axis = figures.training_curves(log).axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    for label, value in (("ℓ_f, validation", 0.7), ("the same, averaged weights", 0.6)):
        assert (lines[label].get_xdata(), lines[label].get_ydata()) == ([5], [value])
    for column, label in figures.CURVES.items():
        assert lines[label].get_ydata().tolist() == log[column].to_list()
    older = figures.training_curves(log.drop(columns="val_loss_average")).axes[0]
    assert len(older.lines) == len(lines) - 1


def test_bars_have_one_panel_for_each_title_and_one_legend():
    panels = {title: {"a": np.ones(3), "b": np.zeros(3)} for title in ("dark", "bright")}
    figure = figures.channel_bars(panels, "weight")
    assert [axis.get_title() for axis in figure.axes] == ["dark", "bright"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert not figures.channel_bars({"one": {"a": np.ones(3)}}, "weight").legends


# ---- scenes with enlarged details


def scene(*zooms):
    return figures.Scene("set\nname", [np.tile(np.linspace(0, 1, 80), (60, 1))] * 3, zooms)


def test_details_show_the_pixels_inside_their_frames():
    whole, *details = figures.zoom_grid([scene(*ZOOMS)], "abc").axes[:3]
    ramp = np.linspace(0, 1, 80)
    for axis, start, colour in zip(details, (8, 40), figures.ZOOM_COLOURS, strict=True):
        shown = np.asarray(axis.images[0].get_array())
        assert shown.shape == (12, 16) and (shown == ramp[start : start + 16]).all()
        assert axis.spines["top"].get_edgecolor() == mpl.colors.to_rgba(colour)
    frames = [(*p.get_xy(), p.get_width(), p.get_height()) for p in whole.patches]
    assert frames == [(7.5, 3.5, 16, 12), (39.5, 29.5, 16, 12)]


def test_nothing_of_a_grid_is_stretched_cut_off_or_covered():
    grid = [scene(*ZOOMS), scene(), figures.Scene("s", [np.zeros((6, 8)), None, np.zeros((6, 8))])]
    figure = figures.zoom_grid(grid, ["infrared", "Laplacian pyramid", "ours"], width=5)
    assert len(figure.axes) == 3 * 3 + 3 + 2 and len(figure.texts) == 3 + 3
    for axis in figure.axes:
        (height, width), box = axis.images[0].get_array().shape[:2], axis.get_window_extent()
        assert box.width / box.height == pytest.approx(width / height, rel=1e-6)
    assert_apart_and_inside(figure)


def test_figure_7_has_the_papers_layout_and_differences_that_can_be_seen():
    """Left one scene, right the other, a column for each variant, its details below it."""
    ours = np.full((60, 80, 3), 0.5)
    other = ours.copy()
    other[10:20, 10:30] += 0.06
    parts = [
        figures.Scene(f"MSRS\n{name}", [ours[..., 0], ours, None, other, ours], ZOOMS)
        for name in ("00927N", "00427D")
    ]
    titles = ["infrared", "visible", "w/o CII", "w/o CFF", "ours"]
    figure = figure7.side_by_side(parts, titles, "not trained")
    assert_apart_and_inside(figure)
    where = {}
    for text in figure.texts:
        where.setdefault(text.get_text(), []).append(text.get_window_extent())
    (left,), (right,) = where["MSRS 00927N"], where["MSRS 00427D"]
    assert left.x1 < figure.bbox.width / 2 < right.x0
    for half in (0, 1):
        columns = [where[title][half].x0 for title in titles[2:]]
        assert columns == sorted(columns)
        assert where["w/o CII"][half].y0 > where["not trained"][half].y1
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    # each half: two images, two details of each, one difference, two sources
    assert len(shown) == 2 * (2 + 4 + 1 + 2)
    differences = [image for image in shown if image.shape == (60, 80) and np.ptp(image) > 0]
    assert len(differences) == 2  # of w/o CFF to ours, in both halves
    for image in differences:
        assert np.allclose(image[10:20, 10:30], 0.5 + 5 * 0.06) and np.allclose(image[30:], 0.5)


def test_figure_7_shows_the_papers_scenes_in_its_order():
    scenes = [name for dataset, name in figures.read_zooms(7) if dataset == "MSRS"]
    assert scenes == ["00927N", "00427D"]


@pytest.mark.parametrize("region", [(70, 0, 16, 12), (0, 50, 16, 12), (-1, 0, 16, 12)])
def test_a_region_outside_its_image_is_an_error(region):
    with pytest.raises(DatasetError, match=r"not inside its image of 80×60; see zooms.csv"):
        figures.zoom_grid([scene(region, (0, 0, 16, 12))], "abc")


@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_the_committed_scenes_are_test_pairs_and_the_drawn_ones_hold_their_regions(number):
    scenes = figures.read_zooms(number)
    assert {dataset for dataset, _ in scenes} <= set(DATASETS) and len(scenes) >= 4
    for (dataset, name), regions in scenes.items():
        assert read_split(dataset)[name] == "test"
        one, two = regions
        assert one[2:] == two[2:]  # of one shape
        if dataset == SYNTHETIC:
            figures.zoom_grid([figures.Scene(name, [read_scene(name)[1]] * 2, regions)], "ab")


# ---- charts of many methods


def test_boxes_name_every_method_once_and_get_wider_panels_where_there_are_many():
    few, many = boxes(), boxes("abcdefgh")
    assert [text.get_text() for text in few.legends[0].get_texts()] == ["average", "ours"]
    assert [axis.get_title() for axis in few.axes] == ["Q_AG ↑", "Q_CV ↓", "sharpness"]
    assert {axis.get_subplotspec().get_geometry()[1] for axis in few.axes} == {3}
    assert {axis.get_subplotspec().get_geometry()[1] for axis in many.axes} == {2}


def test_ranks_are_sorted_and_ours_is_set_apart():
    ranks = {"worst": 3.0, "ours": 2.0, "best": 1.0, "unknown": np.nan}
    rows = [(d, k, *rank) for d in "AB" for k in ("ag", "qcv") for rank in ranks.items()]
    summary = pd.DataFrame(rows, columns=["dataset", "metric", "method", "rank"])
    figure = figures.rank_plot(summary)
    assert [axis.get_title() for axis in figure.axes] == ["Q_AG", "Q_CV"]
    axis = figure.axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["best", "ours", "worst"]
    points = {tuple(p) for c in axis.collections for p in np.asarray(c.get_offsets())}
    assert points == {(1, 0), (2, 1), (3, 2)}
    (band,) = axis.patches
    assert (band.get_y(), band.get_height()) == (0.5, 1)
    nothing = figures.rank_plot(summary.assign(rank=np.nan))
    assert not nothing.axes and not nothing.legends


def test_r52_a_name_is_no_formula(tmp_path):
    name = r"$\frac$ & _x_"
    ranks = pd.DataFrame({"dataset": "A", "metric": "ag", "method": name, "rank": [1.0]})
    grid = figures.zoom_grid([figures.Scene(name, [np.zeros((6, 8))])], [name])
    for figure in (boxes([name], ["ag"]), figures.rank_plot(ranks), grid):
        assert figures.save_figure(figure, tmp_path, "f")[0].is_file()
