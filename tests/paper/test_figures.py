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


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def boxes():
    rng = np.random.default_rng(0)
    rows = [
        (dataset, str(i), method, metric, rng.random())
        for dataset in "AB"
        for i in range(5)
        for method in ("average", "ours")
        for metric in ("ag", "qcv", "sharpness")
    ]
    frame = pd.DataFrame(rows, columns=["dataset", "name", "method", "metric", "value"])
    return figures.metric_boxes(frame)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_equal_figures_are_equal_files(tmp_path, suffix):
    one, two = (
        figures.save_figure(boxes(), tmp_path / name, "chart", (suffix,))[0] for name in "ab"
    )
    assert one.read_bytes() == two.read_bytes()


def test_a_grid_shows_grey_images_unstretched_and_keeps_their_aspect(tmp_path):
    flat = np.full((30, 60), 0.25)
    bright = np.full((30, 60), 0.5)
    figure = figures.image_grid([[flat, bright]], ("a", "b"), width=4)
    path = figures.save_figure(figure, tmp_path, "grid")[0]
    pixels = np.asarray(Image.open(path).convert("L"))
    middle = pixels[int(pixels.shape[0] * 0.7)]
    assert abs(int(middle[len(middle) // 4]) - 64) <= 1
    assert abs(int(middle[3 * len(middle) // 4]) - 128) <= 1
    box = figure.axes[0].get_window_extent()
    assert box.width / box.height == pytest.approx(2, rel=0.1)


def test_boxes_name_every_method_once_and_every_metric():
    figure = boxes()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["average", "ours"]
    assert [axis.get_title() for axis in figure.axes] == ["Q_AG ↑", "Q_CV ↓", "sharpness"]


def test_curves_show_the_validation_only_where_there_is_one():
    log = pd.DataFrame(
        [(i, 1e-3, 1.0, 0.5, 2.0, *([0.7, 0.6] if i == 5 else [np.nan] * 2)) for i in range(10)],
        columns=LOG_COLUMNS,
    )
    axis = figures.training_curves(log).axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    for label, value in (("ℓ_f, validation", 0.7), ("the same, averaged weights", 0.6)):
        assert lines[label].get_xdata().tolist() == [5]
        assert lines[label].get_ydata().tolist() == [value]
    for column, label in (
        ("loss", "ℓ_f (eq. 6)"),
        ("loss_grad", "ℓ_g (eq. 7)"),
        ("loss_int", "ℓ_i (eq. 8)"),
    ):
        assert lines[label].get_ydata().tolist() == log[column].to_list()
    older = figures.training_curves(log.drop(columns="val_loss_average")).axes[0]
    assert len(older.lines) == len(lines) - 1


def test_bars_have_one_panel_for_each_title_and_one_legend():
    panels = {
        "dark": {"a": np.ones(3), "b": np.zeros(3)},
        "bright": {"a": np.ones(3), "b": np.ones(3)},
    }
    figure = figures.channel_bars(panels, "weight")
    assert [axis.get_title() for axis in figure.axes] == ["dark", "bright"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert not figures.channel_bars({"one": {"a": np.ones(3)}}, "weight").legends


def test_letters_can_be_drawn_as_outlines(tmp_path):
    bars = figures.channel_bars({"one": {"a": np.ones(3)}}, "weight")
    named, drawn = (
        figures.save_figure(bars, tmp_path, str(outlines), ("svg",), outlines=outlines)[0]
        for outlines in (False, True)
    )
    assert "<text" in named.read_text() and "<text" not in drawn.read_text()


# ---- scenes with enlarged details


def scene(*zooms, images=3):
    ramp = np.tile(np.linspace(0, 1, 80), (60, 1))
    return figures.Scene("set\nname", [ramp] * images, zooms)


def test_details_show_the_pixels_inside_their_frames():
    figure = figures.zoom_grid([scene((8, 4, 16, 12), (40, 30, 16, 12))], "abc")
    whole, first, second = figure.axes[:3]
    ramp = np.linspace(0, 1, 80)
    for axis, start, colour in zip((first, second), (8, 40), figures.ZOOM_COLOURS, strict=True):
        shown = np.asarray(axis.images[0].get_array())
        assert shown.shape == (12, 16) and (shown == ramp[start : start + 16]).all()
        assert axis.spines["top"].get_edgecolor() == mpl.colors.to_rgba(colour)
    frames = [(*p.get_xy(), p.get_width(), p.get_height()) for p in whole.patches]
    assert frames == [(7.5, 3.5, 16, 12), (39.5, 29.5, 16, 12)]


def test_nothing_of_a_grid_is_stretched_cut_off_or_covered():
    grid = [scene((8, 4, 16, 12), (40, 30, 16, 12)), scene()]
    figure = figures.zoom_grid(grid, ["infrared", "Laplacian pyramid", "ours"], width=5)
    figure.draw_without_rendering()
    boxes = [axis.get_window_extent() for axis in figure.axes]
    assert len(boxes) == 3 * 3 + 3
    for axis, box in zip(figure.axes, boxes, strict=True):
        height, width = axis.images[0].get_array().shape[:2]
        assert box.width / box.height == pytest.approx(width / height, rel=1e-6)
    words = [text.get_window_extent() for text in figure.texts]
    assert len(words) == 2 + 3
    for i, box in enumerate([*boxes, *words]):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in [*boxes, *words][:i])


def test_a_missing_image_leaves_a_gap():
    row = figures.Scene("s", [np.zeros((6, 8)), None, np.zeros((6, 8))])
    assert len(figures.zoom_grid([row], "abc").axes) == 2


def test_figure_7_has_the_papers_layout_and_differences_that_can_be_seen():
    """Left one scene, right the other, a column for each variant, its details below it."""
    ours = np.full((60, 80, 3), 0.5)
    other = ours.copy()
    other[10:20, 10:30] += 0.06
    zooms = ((8, 4, 16, 12), (40, 30, 16, 12))
    parts = [
        figures.Scene(f"MSRS\n{name}", [ours[..., 0], ours, None, other, ours], zooms)
        for name in ("00927N", "00427D")
    ]
    titles = ["infrared", "visible", "w/o CII", "w/o CFF", "ours"]
    figure = figure7.side_by_side(parts, titles, "not trained")
    figure.draw_without_rendering()
    middle = figure.bbox.width / 2
    where = {}
    for text in figure.texts:
        where.setdefault(text.get_text(), []).append(text.get_window_extent())
    (left,), (right,) = where["MSRS 00927N"], where["MSRS 00427D"]
    assert left.x1 < middle < right.x0
    for half in (0, 1):
        columns = [where[title][half].x0 for title in titles[2:]]
        assert columns == sorted(columns)
        assert where["w/o CII"][half].y0 > where["not trained"][half].y1
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    differences = [image for image in shown if image.ndim == 2 and image.shape == (60, 80)]
    differences = [image for image in differences if np.ptp(image) > 0]
    assert len(differences) == 2  # of w/o CFF to ours, in both halves
    for image in differences:
        assert np.allclose(image[10:20, 10:30], 0.5 + 5 * 0.06) and np.allclose(image[30:], 0.5)
    # each half: two images, two details of each, one difference, two sources
    assert len(shown) == 2 * (2 + 4 + 1 + 2)
    boxes = [axis.get_window_extent() for axis in figure.axes]
    boxes += [text.get_window_extent() for text in figure.texts]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_figure_7_shows_the_papers_scenes_in_its_order():
    scenes = [name for dataset, name in figures.read_zooms(7) if dataset == "MSRS"]
    assert scenes == ["00927N", "00427D"]


@pytest.mark.parametrize("region", [(70, 0, 16, 12), (0, 50, 16, 12), (-1, 0, 16, 12)])
def test_a_region_outside_its_image_is_an_error(region):
    with pytest.raises(DatasetError, match=r"not inside its image of 80×60; see zooms.csv"):
        figures.zoom_grid([scene(region, (0, 0, 16, 12))], "abc")


def test_regions_come_in_pairs_of_one_shape(tmp_path):
    path = tmp_path / "z.csv"
    head = ",".join(figures.ZOOM_COLUMNS)
    path.write_text(f"{head}\n4,A,01,1,2,8,6\n4,A,01,3,4,8,6\n5,A,02,0,0,8,6\n")
    assert figures.read_zooms(4, path) == {("A", "01"): [(1, 2, 8, 6), (3, 4, 8, 6)]}
    with pytest.raises(DatasetError, match="A 02 needs two regions of one shape"):
        figures.read_zooms(5, path)
    path.write_text(f"{head}\n4,A,01,1,2,8,x\n")
    with pytest.raises(DatasetError, match="not a table of regions"):
        figures.read_zooms(4, path)


def test_the_committed_scenes_are_test_pairs_and_the_drawn_ones_hold_their_regions():
    for number in (4, 5, 6, 7):
        scenes = figures.read_zooms(number)
        assert {dataset for dataset, _ in scenes} <= set(DATASETS)
        assert len(scenes) >= 4
        for (dataset, name), regions in scenes.items():
            assert read_split(dataset)[name] == "test"
            if dataset == SYNTHETIC:
                images = [read_scene(name)[1]] * 2
                figures.zoom_grid([figures.Scene(name, images, regions)], "ab")


# ---- charts of many methods


def test_many_boxes_get_wider_panels():
    rows = [
        (d, i, m, k, 1.0 * i) for d in "AB" for i in range(3) for m in "abcdefgh" for k in "xyz"
    ]
    frame = pd.DataFrame(rows, columns=["dataset", "name", "method", "metric", "value"])
    few = figures.metric_boxes(frame[frame["method"] < "c"])
    many = figures.metric_boxes(frame)
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
    rows = [("A", str(i), name, "ag", 1.0 * i) for i in range(3)]
    frame = pd.DataFrame(rows, columns=["dataset", "name", "method", "metric", "value"])
    summary = pd.DataFrame(
        [("A", "ag", name, 1.0)], columns=["dataset", "metric", "method", "rank"]
    )
    drawn = figures.metric_boxes(frame), figures.rank_plot(summary), figures.zoom_grid(
        [figures.Scene(name, [np.zeros((6, 8))])], [name]
    )  # fmt: skip
    for figure in drawn:
        assert figures.save_figure(figure, tmp_path, "f")[0].is_file()
