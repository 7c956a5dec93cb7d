"""Figures 1 to 3: nothing overlaps or is cut off, and the files are the committed ones."""

from itertools import combinations
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch
from torch import nn

from fusionlib.encoder import load_encoder
from fusionlib.network import FusionNet, NetworkConfig
from paper import drawings
from paper.figures import save_figure

FIGURES = Path(__file__).parents[2] / "figures"
TITLE = "EfficientNet-Lite0 (ImageNet, not CLIP)"
DRAWINGS = {
    "fig1_network": lambda: drawings.draw_network(TITLE),
    "fig2_cii": drawings.draw_injection,
    "fig3_cff": drawings.draw_feature_fusion,
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
    figure = drawings.draw_network(load_encoder("embedded").title)
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "EfficientNet-Lite0 (ImageNet, not CLIP)" in texts
    assert "in the paper: CLIP" in texts


def texts_of(figure):
    return {text.get_text() for text in figure.axes[0].texts}


def test_nothing_leads_past_the_network():
    """FD's Tanh is the fused image (section 3.3): one arrow into I_f, and no second operand."""
    axis = drawings.draw_network(TITLE).axes[0]
    (fused,) = (t.get_position()[0] for t in axis.texts if t.get_text() == "$I_f$")
    after = [t.get_text() for t in axis.texts if t.get_position()[0] > fused - 0.6]
    assert after == ["$I_f$", "1×H×W"] and "+" not in texts_of(drawings.draw_network(TITLE))


@pytest.mark.parametrize("draw", [drawings.draw_injection, drawings.draw_feature_fusion])
def test_clip_and_both_images_are_inside_cii_and_cff(draw):
    """Figures 2 and 3: the frozen CLIP is part of either block, its inputs are the images."""
    texts = texts_of(draw())
    assert {"CLIP", "$I_i$", "$I_v$", "$F_i^c$", "$F_v^c$", "see Fig. 1"} <= texts


def test_weights_have_the_papers_names_and_equations_their_numbers():
    cii, cff = texts_of(drawings.draw_injection()), texts_of(drawings.draw_feature_fusion())
    assert {"$W$", "$F^s$", "$F^c$  (eq. 1)", "eq. 2"} <= cii
    assert not any("W_s" in text for text in cii)  # that is CFF's, of equation 4
    assert {"$F_f$  (eq. 3)", "$W_s$  (eq. 4)", "eq. 5"} <= cff


def test_the_drawn_layers_are_those_of_the_network():
    net = FusionNet(NetworkConfig(embed=1280))
    cff, cii = texts_of(drawings.draw_feature_fusion()), texts_of(drawings.draw_injection())
    config = net.config
    names = {config.embed: "E", config.embed // config.reduction: "E/8"}
    names |= {2 * config.width: "2C", config.width: "C", 1: "1"}
    for layer in (net.cff.sawp[0], net.cff.sawp[2]):
        assert f"3×3 conv., {names[layer.in_channels]} → {names[layer.out_channels]}" in cff
    assert len(net.cff.ira) == 2 and "two linear layers" in cff
    assert f"{names[net.cff.ira[0].in_features]} → {names[net.cff.ira[1].out_features]}" in cff
    assert len(net.cii_ir.adapter) == 2
    for layer in net.cii_ir.adapter:
        assert f"linear, {names[layer.in_features]} → {names[layer.out_features]}" in cii
    assert "3×3 conv., C → C" in cii
    # the only activations drawn: σ and ReLU of SEP and of SAWP
    for net_part, figure in (
        (net.cii_ir, drawings.draw_injection()),
        (net.cff, drawings.draw_feature_fusion()),
    ):
        drawn = [t.get_text() for t in figure.axes[0].texts]
        relus = sum(isinstance(m, nn.ReLU) for m in net_part.modules())
        assert drawn.count("ReLU") == relus == 1 and drawn.count("σ") == 1
