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
        for metric in ("ag", "ssim")
    ]
    frame = pd.DataFrame(rows, columns=["dataset", "name", "method", "metric", "value"])
    return figures.metric_boxes(frame, {"ag": "AG ↑"})


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
    assert [axis.get_title() for axis in figure.axes] == ["AG ↑", "ssim"]


def test_curves_show_the_validation_only_where_there_is_one():
    log = pd.DataFrame(
        [(i, 1e-3, 1.0, 0.5, 2.0, 0.7 if i == 5 else np.nan) for i in range(10)],
        columns=LOG_COLUMNS,
    )
    axis = figures.training_curves(log).axes[0]
    held_out = next(line for line in axis.lines if line.get_label() == "L, validation")
    assert held_out.get_xdata().tolist() == [5]
