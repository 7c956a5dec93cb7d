import base64
import io

import numpy as np
import pytest
import torch
from ipywidgets import IntSlider
from matplotlib import pyplot as plt
from PIL import Image
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

    class Handle:
        def __init__(self, at):
            self.at = at

        def update(self, bundle, raw):
            assert raw
            shown[self.at] = bundle

    def display(bundle, raw, display_id=False):
        assert raw
        shown.append(bundle)
        return Handle(len(shown) - 1) if display_id else None

    monkeypatch.setattr(teaching, "display", display)
    return shown


def noisy(size):
    rng = np.random.default_rng(0)
    figure, axis = plt.subplots(figsize=(size, size), dpi=100)
    axis.imshow(rng.random((200, 200, 3)))
    return figure


def decoded(bundle):
    data = base64.b64decode(bundle["image/png"])
    return len(data), Image.open(io.BytesIO(data))


def test_a_scene_has_one_size_whatever_the_file_has(tmp_path, fuser):
    rng = np.random.default_rng(0)
    for shape in ((300, 210), (120, 400)):
        save_image(tmp_path / "ir.png", rng.random(shape))
        save_image(tmp_path / "vi.png", rng.random((*shape, 3)))
        pair = Pair("TNO", "a", tmp_path / "ir.png", tmp_path / "vi.png")
        scene = teaching.open_scene(fuser, pair, (64, 48))
        assert scene.ir.shape == scene.y.shape == (48, 64) and scene.vi.shape == (48, 64, 3)
        assert scene.ir_input.shape == (1, 1, 48, 64) and scene.vi_input.shape == (1, 3, 48, 64)
        assert scene.c_ir.shape == scene.c_vi.shape == (1, fuser.encoder.embed)
        assert scene.vi.min() >= 0 and scene.vi.max() <= 1


def test_fusing_a_scene_is_what_the_fuser_does(fuser):
    rng = np.random.default_rng(1)
    ir, vi = rng.random((40, 48), np.float32), rng.random((40, 48, 3), np.float32)
    scene = teaching.make_scene(fuser, "a", ir, vi)
    np.testing.assert_allclose(
        teaching.fuse(fuser.weights.net, scene), fuser(ir, vi), atol=1e-5, rtol=0
    )


def test_hooks_replace_and_watch_only_for_a_while():
    double, net = nn.Identity(), nn.Sequential(nn.Identity(), nn.Identity())
    x = torch.ones(2)
    with teaching.replaced(net[0], lambda t: 3 * t), teaching.watched({"last": net[1]}) as seen:
        assert torch.equal(net(x), 3 * x)
    assert torch.equal(seen["last"], 3 * x)
    assert torch.equal(net(x), x) and torch.equal(seen["last"], 3 * x)
    with pytest.raises(ZeroDivisionError), teaching.replaced(double, lambda t: 1 / 0):
        double(x)
    assert torch.equal(double(x), x)


def test_heat_shows_the_weight_in_colour_and_the_scene_below():
    weight = np.array([[0.0, 1.0], [2.0, -1.0]])
    flat = teaching.heat(np.zeros((2, 2)), weight, (0, 1), "gray")
    np.testing.assert_allclose(flat[..., 0], 0.65 * np.array([[0, 1], [1, 0]]), atol=1e-6)
    lit = teaching.heat(np.ones((2, 2)), weight, (0, 1), "gray")
    np.testing.assert_allclose(lit - flat, 0.35)


def test_pictures_keep_to_the_limit_and_small_ones_keep_their_colours(displayed):
    teaching.show(noisy(1))
    teaching.show(noisy(5))
    (small, fine), (large, coarse) = map(decoded, displayed)
    assert small < large <= teaching.PNG_BYTES
    assert len(fine.getcolors()) > len(coarse.getcolors())
    assert not plt.get_fignums()  # or the notebook would show them again


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
    assert not plt.get_fignums()
