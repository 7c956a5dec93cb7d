"""Every method behind its interface, with random weights: sizes, ranges, errors, details."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fusionlib.baselines import (
    METHODS,
    datfuse,
    densefuse,
    didfuse,
    lrrnet,
    sage,
    seafusion,
    tardal,
)
from fusionlib.baselines.method import NetworkMethod
from fusionlib.errors import ImageError, PairError
from fusionlib.images import Image, save_image

NETWORKS = [name for name, method in METHODS.items() if method.weights]
SYMMETRIC = ("IFCNN", "DIDFuse", "DenseFuse")  # they add their inputs, or take the maximum


@pytest.fixture(params=NETWORKS)
def method(request, monkeypatch):
    """A network method with random weights, or with its shipped ones."""
    found = METHODS[request.param]
    if not found.weights[0].shipped:
        torch.manual_seed(0)
        net = found.build().eval().requires_grad_(False)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.1)
        monkeypatch.setattr(NetworkMethod, "network", lambda self: net)
    return found


def pair(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((height, width), dtype=np.float32), rng.random((height, width, 3))


def test_r15_r17_networks_take_any_size_or_say_why_not(method):
    for size in [(1, 1), (9, 3), (4, 7), (40, 301)]:
        ir, vi = pair(*size)
        if min(size) < method.least_side:
            with pytest.raises(ImageError, match=f"{method.title} cannot fuse {size[1]}×{size[0]}"):
                method.fuse(ir, vi)
        else:
            y = method.fuse(ir, vi)
            assert y.shape == size and y.dtype == np.float32
            assert y.min() >= 0 and y.max() <= 1
    for level in (0, 0.5, 1):
        assert np.isfinite(method.fuse(np.full((9, 8), level), np.full((9, 8, 3), level))).all()


def test_networks_give_whole_grey_levels_which_saving_keeps(method, tmp_path):
    ir, vi = pair(20, 31)
    before = ir.copy(), vi.copy()
    y = method.fuse(ir, vi)
    saved = np.asarray(Image.open(save_image(tmp_path / "a.png", y)))
    assert np.abs(y * 255 - saved).max() < 1e-3
    assert np.array_equal(method.fuse(ir, vi), y)  # every time, and of the same input:
    assert np.array_equal(ir, before[0]) and np.array_equal(vi, before[1])
    grey = pair(20, 31, seed=1)[0]
    there, back = method.fuse(ir, np.dstack([grey] * 3)), method.fuse(grey, np.dstack([ir] * 3))
    assert np.array_equal(there, back) == (method.name in SYMMETRIC)


@pytest.mark.parametrize("name", METHODS)
def test_r03_shapes_and_values_that_do_not_fit_are_named_errors(name):
    fuse = METHODS[name].fuse
    with pytest.raises(PairError, match=r"\(4, 5\) and \(5, 4, 3\)"):
        fuse(np.zeros((4, 5)), np.zeros((5, 4, 3)))
    for bad in (np.nan, 1.01, -0.01):
        with pytest.raises(ImageError, match="ir: expected values"):
            fuse(np.full((4, 5), bad), np.zeros((4, 5, 3)))
        with pytest.raises(ImageError, match="vi: expected values"):
            fuse(np.zeros((4, 5)), np.full((4, 5, 3), bad))


@pytest.mark.parametrize(
    ("module", "given", "levels"),
    [
        (datfuse, (1.999 / 255, -0.5 / 255, -1.5 / 255), [1, 0, 255]),  # cut off, wraps
        (lrrnet, (-1.0, 0.0, 1.0), [0, 127, 254]),  # stretched by its whole range
        (seafusion, (0.25, 0.5, 0.75), [0, 127, 255]),  # stretched
        (seafusion, (0.5, 0.5, 0.5), [127, 127, 127]),  # unless it is flat
        (tardal, (-0.3, 0.9999, 0.5), [0, 254, 127]),  # clipped and cut off
        (densefuse, (-3.0, 254.9, 300.0), [0, 254, 255]),  # the same
        (sage, (-0.3, 0.9999, 0.5), [0, 255, 128]),  # clipped and rounded
        (didfuse, (0.0, 0.9999, 0.5), [0, 255, 128]),  # rounded
    ],
)
def test_networks_make_grey_levels_as_their_authors_do(module, given, levels):
    def net(ir, vi):  # gives one image whatever comes in
        return torch.tensor(given).view(*([1] * (ir.ndim - 1)), -1)

    image = np.zeros((1, 3), np.uint8)
    assert module.apply(net, image, np.dstack([image] * 3)).tolist() == [levels]


def test_lrrnet_in_place_equals_the_formula():
    torch.manual_seed(1)
    encoder = lrrnet.Encoder()
    nn.init.normal_(encoder.threshold, std=0.02)  # some are negative
    nn.init.constant_(encoder.decay, 0.7)
    x = torch.rand(1, 7, 9)
    lam = encoder.threshold.view(1, -1, 1, 1)

    def conv(module, image):
        return module(F.pad(image, (1, 1, 1, 1), mode="reflect"))

    def shrink(r):
        return r.sign() * (r.abs() - lam).clamp_min(0)

    z = shrink(conv(encoder.first, x[None]))
    for to_image, to_code in zip(encoder.to_image, encoder.to_code, strict=True):
        r = x[None] - conv(to_image, z)
        z = shrink(0.7 * z + conv(to_code, r))
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), z[0], atol=1e-5, rtol=1e-4)
