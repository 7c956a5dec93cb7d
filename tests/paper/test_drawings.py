"""Figures 1 to 3: nothing overlaps or is cut off, names are the paper's, layers the network's."""

import re
from itertools import combinations

import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch
from torch import nn

from fusionlib.encoder import load_encoder
from fusionlib.files import REPOSITORY
from fusionlib.network import FusionNet, NetworkConfig
from paper import drawings
from paper.figures import save_figure

DRAWINGS = {
    "fig1_network": lambda: drawings.draw_network(load_encoder("embedded").title),
    "fig2_cii": drawings.draw_injection,
    "fig3_cff": drawings.draw_feature_fusion,
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts_of(name):
    return [text.get_text() for text in DRAWINGS[name]().axes[0].texts]


@pytest.mark.parametrize("name", DRAWINGS)
def test_nothing_is_cut_off_and_no_text_touches_another_or_leaves_its_box(name):
    figure = DRAWINGS[name]()
    figure.draw_without_rendering()
    axis = figure.axes[0]
    texts = [(text.get_text(), text.get_window_extent()) for text in axis.texts]
    boxes = [p.get_window_extent() for p in axis.patches if isinstance(p, FancyBboxPatch)]
    margin, page = 0.02 * figure.dpi, figure.bbox
    for box in [*boxes, *(extent for _, extent in texts)]:
        assert box.x0 >= margin and box.y0 >= margin
        assert box.x1 <= page.x1 - margin and box.y1 <= page.y1 - margin
    inner = [(text, extent.shrunk(0.98, 0.75)) for text, extent in texts]  # without line spacing
    for (one, a), (two, b) in combinations(inner, 2):
        assert not a.overlaps(b), (one, two)
    for (text, extent), (_, core) in zip(texts, inner, strict=True):
        for box in boxes:
            if box.contains((extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2):
                assert box.x0 <= extent.x0 and extent.x1 <= box.x1, text
            else:
                assert not box.overlaps(core), text


@pytest.mark.parametrize("name", DRAWINGS)
def test_equal_drawings_are_equal_files_and_svgs_need_no_font(tmp_path, name):
    one, two = (
        save_figure(DRAWINGS[name](), tmp_path / part, name, ("svg", "pdf"), outlines=True)
        for part in "ab"
    )
    for a, b in zip(one, two, strict=True):
        assert a.read_bytes() == b.read_bytes()
        assert (REPOSITORY / "figures" / a.name).is_file()
    text = one[0].read_text()
    assert "<text" not in text and not re.search(r'href="(?!#|data:)', text)
    assert "<text" in save_figure(DRAWINGS[name](), tmp_path, name, ("svg",))[0].read_text()


def test_figure_1_names_the_encoder_and_only_the_colour_path_leads_past_the_network():
    """FD's Tanh is the fused image (section 3.3); what the paper does not have is dashed."""
    axis, texts = DRAWINGS["fig1_network"]().axes[0], texts_of("fig1_network")
    assert "EfficientNet-Lite0 (ImageNet, not CLIP)" in " ".join(texts) and "+" not in texts
    assert "image encoder ❄" in texts and "in the paper: CLIP" in " ".join(texts)
    dashed = [p.get_y() < 1 for p in axis.patches if p.get_linestyle() == "--"]
    assert dashed == [False, True]  # the stand-in for CLIP, and the card in colour
    (decoder,) = (t.get_position()[0] for t in axis.texts if t.get_text() == "FD")
    after = [line for line in axis.lines if max(line.get_xdata()) > decoder + 0.5 > 5.5]
    assert [line.get_linestyle() for line in after] == ["-", "--", "--"]
    pictures = drawings.pictures()
    warm = pictures["i"] > 128  # the tea, dark in the visible image's luma beside it
    assert pictures["f"][warm].mean() > pictures["v"].mean(axis=2)[warm].mean()
    for card, name in zip(axis.images, ("i", "v", "f", "colour"), strict=True):
        assert (card.get_array() == pictures[name]).all()


def test_clip_and_the_papers_names_and_equation_numbers_are_inside_cii_and_cff():
    """Figures 2 and 3: the frozen CLIP is part of either block, its inputs are the images."""
    cii, cff = set(texts_of("fig2_cii")), set(texts_of("fig3_cff"))
    assert {
        "CLIP ❄",
        "$I_i$  1×H×W",
        "$I_v$  3×H×W",
        "$F_i^c$",
        "$F_v^c$",
        "here: Fig. 1",
    } <= cii & cff
    assert {"$W$", "$F^s$", "$F^c$  (eq. 1)", "eq. 2"} <= cii
    assert not any("W_s" in text for text in cii)  # that is CFF's, of equation 4
    assert {"$F_f$  (eq. 3)", "$W_s$  (eq. 4)", "eq. 5"} <= cff


def test_the_drawn_layers_are_those_of_the_network():
    net = FusionNet(NetworkConfig(embed=1280))
    cii, cff, config = texts_of("fig2_cii"), texts_of("fig3_cff"), net.config
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
    for block, texts in ((net.cii_ir, cii), (net.cff, cff)):
        relus = sum(isinstance(module, nn.ReLU) for module in block.modules())
        assert texts.count("ReLU") == relus == 1 and texts.count("σ") == 1
