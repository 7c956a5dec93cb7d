import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from fusionlib import figures
from fusionlib.training import LOG_COLUMNS


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
    assert [axis.get_title() for axis in figure.axes] == ["AG ↑", "Q_CV ↓", "sharpness"]


def test_curves_show_the_validation_only_where_there_is_one():
    log = pd.DataFrame(
        [(i, 1e-3, 1.0, 0.5, 2.0, *([0.7, 0.6] if i == 5 else [np.nan] * 2)) for i in range(10)],
        columns=LOG_COLUMNS,
    )
    axis = figures.training_curves(log).axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    for label, value in (("L, validation", 0.7), ("the same, averaged weights", 0.6)):
        assert lines[label].get_xdata().tolist() == [5]
        assert lines[label].get_ydata().tolist() == [value]
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
