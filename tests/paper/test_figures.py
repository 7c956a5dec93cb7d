"""Charts: legible, the same bytes, the same look for the same thing."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import same_color, to_rgb
from PIL import Image

from fusionlib.baselines import METHODS
from fusionlib.statistics import interval
from fusionlib.training import LOG_COLUMNS
from paper import figures


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def paired(methods=("average", "DATFuse", "ours"), metrics=("ag", "qcv"), datasets="AB"):
    """Method number i is i · 0.1 above ours, in image number j by j · 0.01 more."""
    rows = [
        (dataset, j, m, k, 1 + 0.1 * i + 0.01 * j * (m != "ours"))
        for dataset in datasets for i, m in enumerate(reversed(methods)) for j in range(5)
        for k in metrics
    ]  # fmt: skip
    values = pd.DataFrame(rows, columns=["dataset", "name", "method", "metric", "value"])
    ranks = pd.Series(range(len(methods)), list(methods), dtype=float)
    return figures.paired_differences(values, ranks)


def test_equal_figures_are_equal_files_and_a_name_is_no_formula(tmp_path):
    name, formats = r"$\frac$ & _x_", ("png", "svg", "pdf")
    one, two = (
        figures.save_figure(paired([name, "ours"], ["ag"], [name]), tmp_path / n, "chart", formats)
        for n in "ab"
    )
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_points_are_mean_differences_to_ours_with_their_intervals_and_better_is_left():
    ag, qcv, legend = paired().axes[:3]
    points = [line for line in ag.lines if line.get_marker() not in ("None", None)]
    lines = [line for line in ag.lines if len(line.get_xdata()) == 2 and line not in points]
    expected = [interval(height + 0.01 * np.arange(5)) for height in (0.2, 0.1)]  # by rank
    assert [line.get_ydata()[0] for line in points] == [0, 1, 3, 4]  # a gap between datasets
    assert [line.get_xdata()[0] for line in points[:2]] == pytest.approx([e[0] for e in expected])
    for line, (_, low, high, _) in zip(lines, expected, strict=False):
        assert line.get_xdata() == pytest.approx([low, high])
    assert not ag.xaxis_inverted() and qcv.xaxis_inverted() and ag.yaxis_inverted()
    assert (ag.get_title(), qcv.get_title()) == ("Q_AG ↑", "Q_CV ↓, axis reversed")
    assert [label.get_text() for label in ag.get_yticklabels()] == ["A", "B"]
    shown = [text.get_text() for text in legend.get_legend().get_texts()]
    assert shown == ["Average", "DATFuse"]  # titles, in the order of the rows


def test_methods_without_a_rank_or_a_value_leave_no_point():
    values = pd.DataFrame(
        [("A", j, m, "ag", np.nan if m == "b" else j) for m in ("ours", "a", "b") for j in (1, 2)],
        columns=["dataset", "name", "method", "metric", "value"],
    )
    ranks = pd.Series({"ours": 1.0, "a": np.nan, "b": 2.0})
    chart, legend = figures.paired_differences(values, ranks).axes[:2]
    assert [text.get_text() for text in legend.get_legend().get_texts()] == ["b"]
    finite = [np.isfinite(line.get_xdata()).all() for line in chart.lines]
    assert finite == [False, False, True]  # interval, point; and the line at 0


def test_each_method_has_a_look_of_its_own_also_in_grey():
    looks = {name: figures.look_of(name) for name in (*METHODS, "letter")}
    is_open = {name: look.get("mfc") == "white" for name, look in looks.items()}
    assert {n for n in looks if is_open[n]} == {"average", "maximum", "laplacian"}
    assert len({(look["marker"], is_open[name]) for name, look in looks.items()}) == len(looks)
    pair = [np.dot(to_rgb(c), (0.299, 0.587, 0.114)) for c in (figures.INFRARED, figures.VISIBLE)]
    assert pair[0] - pair[1] > 0.1


def test_a_grid_shows_grey_images_unstretched_and_keeps_their_aspect(tmp_path):
    images = [np.full((30, 60), level) for level in (0.25, 0.5)]
    figure = figures.image_grid([images], ("a", "b"), width=4)
    path = figures.save_figure(figure, tmp_path, "grid")[0]
    pixels = np.asarray(Image.open(path).convert("L")).astype(int)
    middle = pixels[int(pixels.shape[0] * 0.7)]
    assert abs(middle[len(middle) // 4] - 64) <= 1 and abs(middle[3 * len(middle) // 4] - 128) <= 1
    box = figure.axes[0].get_window_extent()
    assert box.width / box.height == pytest.approx(2, rel=0.1)


def test_trainings_stand_side_by_side_with_validation_where_there_is_one():
    log = pd.DataFrame(
        [(i, 1e-3, 1.0, 0.5, 2.0, *([0.7, 0.6] if i == 5 else [np.nan] * 2)) for i in range(10)],
        columns=LOG_COLUMNS,
    )
    one, other = figures.training_curves({"one": log, "other": log[:5]}).axes
    assert (one.get_title(), other.get_title()) == ("one", "other")
    lines = {line.get_label(): line for line in one.lines}
    for column, (label, _) in figures.CURVES.items():
        shown = log[column].dropna()
        assert lines[label].get_xdata().tolist() == shown.index.tolist()
        assert lines[label].get_ydata().tolist() == shown.tolist()
    assert [len(line.get_xdata()) for line in other.lines] == [5, 5, 5, 0, 0]


def test_bars_have_one_panel_for_each_title_one_legend_and_the_colours_of_the_drawings():
    panels = {
        title: {"infrared": np.ones(3), "visible": np.zeros(3)} for title in ("dark", "bright")
    }
    figure = figures.channel_bars(panels, "weight")
    assert [axis.get_title() for axis in figure.axes] == ["dark", "bright"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["infrared", "visible"]
    colours = [bars.patches[0].get_facecolor() for bars in figure.axes[0].containers]
    assert same_color(colours, [figures.INFRARED, figures.VISIBLE])
    assert not figures.channel_bars({"one": {"a": np.ones(3)}}, "weight").legends
