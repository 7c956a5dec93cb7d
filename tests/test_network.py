"""The network against plain numpy and scipy (`plain_network.py`)."""

import dataclasses
import itertools

import pytest
import torch
from plain_network import array, close, np_network, np_sobel, stir

from fusionlib import network
from fusionlib.network import FusionNet, NetworkConfig

SMALL = NetworkConfig(embed=24, width=8, blocks=2, heads=2, reduction=2)
ABLATIONS = [
    pytest.param(cii, cff, id=f"cii={cii}-cff={cff}")
    for cii, cff in itertools.product((True, False), repeat=2)
]


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def inputs(height, width):
    """Two pairs and their features."""
    ir, vi = torch.rand(2, 1, height, width), torch.rand(2, 3, height, width)
    c_ir, c_vi = torch.randn(2, 2, SMALL.embed)
    return 2 * ir - 1, 2 * vi - 1, c_ir, c_vi


def test_sobel_of_a_hand_written_image():
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 0, 0], image[0, 0, 3, 3] = 10, 1
    horizontal = torch.tensor(
        [
            [-30, -30, 0, 0, 0],
            [-10, -10, 0, 0, 0],
            [0, 0, 1, 0, -1],
            [0, 0, 2, 0, -2],
            [0, 0, 1, 0, -1],
        ],
        dtype=torch.float32,
    )
    g_x, g_y = network.sobel(image)
    assert torch.equal(g_x[0, 0], horizontal)
    assert torch.equal(g_y[0, 0], horizontal.T)  # the image is symmetric


@pytest.mark.parametrize("size", [(9, 7), (1, 6), (6, 1), (1, 1)])
def test_sobel_equals_scipy(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    found = network.sobel(x)
    for index in range(2):
        for mine, other in zip(found, np_sobel(array(x[index])), strict=True):
            close(mine[index], other, 1e-12)


@pytest.mark.parametrize(("use_cii", "use_cff"), ABLATIONS)
def test_network_and_ablations_are_what_the_papers_write(use_cii, use_cff):
    """Whole, image by image, whatever the scale of the encoder's features."""
    net = stir(FusionNet(dataclasses.replace(SMALL, use_cii=use_cii, use_cff=use_cff))).double()
    ir, vi, c_ir, c_vi = (x.double() for x in inputs(6, 7))
    given = ir, vi, 10 * c_ir, 0.01 * c_vi
    learning = net(*given)
    with torch.no_grad():  # takes other steps
        using = net(*given)
    for index in range(2):
        expected = np_network(net, *(array(x[index]) for x in given))
        assert expected.std() > 0.01 and abs(expected).max() <= 1
        close(learning[index], expected, 1e-9)
        close(using[index], expected, 1e-9)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 1), (2, 3)])
def test_output_has_the_size_of_the_input(size):
    out = FusionNet(SMALL).eval()(*inputs(*size))
    assert out.shape == (2, 1, *size) and out.isfinite().all()


def test_attention_of_a_constant_zero_is_zero_with_finite_gradients():
    module = network.TransposedAttention(8, heads=2)
    out = module(torch.zeros(1, 8, 4, 4))
    out.sum().backward()
    assert (out == 0).all()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize(("use_cii", "use_cff"), ABLATIONS)
def test_every_parameter_learns(use_cii, use_cff):
    net = FusionNet(dataclasses.replace(SMALL, use_cii=use_cii, use_cff=use_cff)).train()
    if use_cii:  # undecided between the two sources
        assert all((cii.w_ir == 0.5).all() for cii in (net.cii_ir, net.cii_vi))
    net(*inputs(12, 14)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


@pytest.mark.parametrize("config", [NetworkConfig(), NetworkConfig(512, 16, 3, 2)])
def test_number_of_parameters(config):
    """So many have the layers that the paper names, when none is shared."""
    e, c, h, r = config.embed, config.width, config.heads, config.reduction

    def block(c):
        hidden = int(2.66 * c)
        attention = h + 3 * c * c + 9 * 3 * c + c * c
        feed_forward = 2 * hidden * c + 9 * 2 * hidden + hidden * c
        return 2 * c + attention + 2 * c + feed_forward

    def layer(channels_in, channels_out):
        return 9 * channels_in * channels_out + 2 * channels_out

    def linear(*sizes):
        return sum(a * b + b for a, b in itertools.pairwise(sizes))

    def convolutions(*sizes):
        return sum(9 * a * b + b for a, b in itertools.pairwise(sizes))

    encoders = sum(layer(n, c) + layer(c, c) + config.blocks * block(c) for n in (1, 3))
    cii = e + linear(e, e // r, c) + convolutions(c, c, c)
    cff = 2 * linear(e, e // r, c) + convolutions(2 * c, c, 1)
    decoder = config.blocks * block(2 * c) + layer(2 * c, c) + convolutions(c, 1)
    for use_cii, use_cff in itertools.product((True, False), repeat=2):
        net = FusionNet(dataclasses.replace(config, use_cii=use_cii, use_cff=use_cff))
        found = sum(p.numel() for p in net.parameters())
        assert found == encoders + 2 * cii * use_cii + cff * use_cff + decoder
