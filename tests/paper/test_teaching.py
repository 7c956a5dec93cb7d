import numpy as np
import pytest
import torch
from ipywidgets import IntSlider
from matplotlib import pyplot as plt
from torch import nn

from fusionlib.datasets import Pair
from fusionlib.images import save_image
from fusionlib.inference import load_fuser
from paper import teaching


@pytest.fixture(scope="module")
def fuser():
    return load_fuser()


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed, as bundles; a later update replaces what it updates."""
    shown = []

    def display(bundle, raw, display_id=False):
        assert raw
        shown.append(bundle)
        return Handle() if display_id else None

    class Handle:
        def update(self, bundle, raw):
            assert raw
            shown[-1] = bundle

    monkeypatch.setattr(teaching, "display", display)
    return shown


@pytest.mark.parametrize("shape", [(300, 210), (120, 400)])
def test_a_scene_has_one_size_whatever_the_file_has(tmp_path, fuser, shape):
    rng = np.random.default_rng(0)
    save_image(tmp_path / "ir.png", rng.random(shape))
    save_image(tmp_path / "vi.png", rng.random((*shape, 3)))
    pair = Pair("TNO", "a", tmp_path / "ir.png", tmp_path / "vi.png")
    scene = teaching.open_scene(fuser, pair, (64, 48))
    assert scene.ir.shape == scene.y.shape == (48, 64) and scene.vi.shape == (48, 64, 3)
    assert scene.ir_input.shape == (1, 1, 48, 64) and scene.vi_input.shape == (1, 3, 48, 64)
    assert scene.c_ir.shape == scene.c_vi.shape == (1, fuser.encoder.embed)
    assert scene.vi.min() >= 0 and scene.vi.max() <= 1
    fused = teaching.fuse(fuser.weights.net, scene)
    np.testing.assert_allclose(fused, fuser(scene.ir, scene.vi), atol=1e-5, rtol=0)


def test_hooks_replace_and_watch_only_for_a_while():
    net, x = nn.Sequential(nn.Identity(), nn.Identity()), torch.ones(2)
    with teaching.replaced(net[0], lambda t: 3 * t), teaching.watched({"last": net[1]}) as seen:
        assert torch.equal(net(x), 3 * x)
    assert torch.equal(net(x), x) and torch.equal(seen["last"], 3 * x)
    with pytest.raises(ZeroDivisionError), teaching.replaced(net[0], lambda t: 1 / 0):
        net(x)
    assert torch.equal(net(x), x)


def test_heat_shows_the_weight_in_colour_and_the_scene_below():
    weight = np.array([[0.0, 1.0], [2.0, -1.0]])
    flat = teaching.heat(np.zeros((2, 2)), weight, (0, 1), "gray")
    np.testing.assert_allclose(flat[..., 0], 0.65 * np.array([[0, 1], [1, 0]]), atol=1e-6)
    lit = teaching.heat(np.ones((2, 2)), weight, (0, 1), "gray")
    np.testing.assert_allclose(lit - flat, 0.35)


def test_a_slider_redraws_the_picture_and_leaves_it_when_it_is_gone(displayed):
    def draw(k):
        figure, axis = plt.subplots(figsize=(1, 1))
        axis.bar([0, 1], [k, 1])
        return figure

    slider = IntSlider(3, description="height")
    teaching.explore(draw, k=slider)
    controls, picture = displayed
    assert teaching.WIDGET in controls and "height" in controls["text/plain"]
    assert set(picture) == {"image/png", "text/plain"}  # also without a kernel
    slider.value = 5
    assert len(displayed) == 2 and displayed[1]["image/png"] != picture["image/png"]
    slider.value = 3
    assert displayed[1] == picture
    teaching.show(draw(3))
    assert displayed[2] == picture
    assert not plt.get_fignums()  # or the notebook would show them again


def test_toy_numbers_stand_in_their_cells_and_colours_show_the_sign():
    figure = teaching.numbers([[torch.tensor([[1.0, -0.0], [2.5, -3.0], [1e-6, 0.0025]])]], ["F"])
    (axis,) = figure.axes
    written = {text.get_position(): text.get_text() for text in axis.texts}
    assert written == {
        (0, 0): "1", (1, 0): "0", (0, 1): "2.5", (1, 1): "−3", (0, 2): "0", (1, 2): "0.0025",
    }  # fmt: skip
    low, high = axis.images[0].get_clim()
    assert -low == high >= 3  # zero is the colour in the middle
    plt.close(figure)
