"""Figures 1 to 3: nothing overlaps or is cut off, and the files are the committed ones."""

from itertools import combinations
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

from fusionlib import diagrams
from fusionlib.clip import load_encoder
from fusionlib.figures import save_figure
from fusionlib.network import FusionNet, NetworkConfig

FIGURES = Path(__file__).parent.parent / "figures"
TITLE = "EfficientNet-Lite0 (ImageNet, not CLIP)"
DRAWINGS = {
    "fig1_network": lambda: diagrams.draw_network(TITLE),
    "fig2_cii": diagrams.draw_injection,
    "fig3_cff": diagrams.draw_feature_fusion,
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(params=DRAWINGS)
def name(request):
    return request.param


@pytest.fixture
def figure(name):
    return DRAWINGS[name]()


def extents(figure):
    """Text → its box in inches, and the boxes that are drawn."""
    figure.canvas.draw()
    to_inches = figure.dpi_scale_trans.inverted()
    axis = figure.axes[0]
    texts = [(t.get_text(), t.get_window_extent().transformed(to_inches)) for t in axis.texts]
    boxes = [
        p.get_window_extent().transformed(to_inches)
        for p in axis.patches
        if isinstance(p, FancyBboxPatch)
    ]
    return texts, boxes


def test_nothing_is_cut_off(figure):
    width, height = figure.get_size_inches()
    texts, boxes = extents(figure)
    for box in [*boxes, *(extent for _, extent in texts)]:
        assert box.x0 >= 0.02 and box.y0 >= 0.02
        assert box.x1 <= width - 0.02 and box.y1 <= height - 0.02


def test_no_text_touches_another_or_leaves_its_box(figure):
    texts, boxes = extents(figure)
    for (one, a), (two, b) in combinations(texts, 2):
        inside = a.shrunk(0.98, 0.75), b.shrunk(0.98, 0.75)  # extents hold the line spacing, too
        assert not inside[0].overlaps(inside[1]), (one, two)
    for text, extent in texts:
        for box in boxes:
            middle = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
            if box.contains(*middle):
                assert box.x0 <= extent.x0 and extent.x1 <= box.x1, text
            else:
                assert not box.overlaps(extent.shrunk(0.98, 0.75)), text


@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_equal_drawings_are_equal_files(tmp_path, name, suffix):
    one, two = (
        save_figure(DRAWINGS[name](), tmp_path / part, name, (suffix,), outlines=True)[0]
        for part in "ab"
    )
    assert one.read_bytes() == two.read_bytes()
    assert (FIGURES / one.name).is_file()


def test_svgs_need_no_font(tmp_path, name):
    path = save_figure(DRAWINGS[name](), tmp_path, name, ("svg",), outlines=True)[0]
    text = path.read_text()
    assert "<text" not in text and "<image" not in text


def test_the_encoder_is_named_and_never_passes_as_clip():
    figure = diagrams.draw_network(load_encoder("embedded").title)
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "EfficientNet-Lite0 (ImageNet, not CLIP)" in texts
    assert "in the paper: CLIP" in texts


def test_the_way_past_the_network_is_drawn_when_there_is_one():
    def words(residual):
        return {t.get_text() for t in diagrams.draw_network(TITLE, residual).axes[0].texts}

    assert words(True) - words(False) >= {"pixelwise max", r"$\max(I_i, Y_v)$", "clamp"}


def test_the_drawn_layers_are_those_of_the_network():
    net = FusionNet(NetworkConfig(embed=1280))
    cff = {t.get_text() for t in diagrams.draw_feature_fusion().axes[0].texts}
    cii = {t.get_text() for t in diagrams.draw_injection().axes[0].texts}
    config = net.config
    names = {config.embed: "E", config.embed // config.reduction: "E/8"}
    names |= {2 * config.width: "2C", config.width: "C", 1: "1"}
    for layer in (net.cff.sawp[0], net.cff.sawp[2]):
        assert f"3×3 conv., {names[layer.in_channels]} → {names[layer.out_channels]}" in cff
    assert f"{names[net.cff.ira[0].in_features]} → {names[net.cff.ira[2].out_features]}" in cff
    for layer in (net.cii_ir.adapter[0], net.cii_ir.adapter[2]):
        assert f"linear, {names[layer.in_features]} → {names[layer.out_features]}" in cii
    assert "3×3 conv., C → C" in cii
