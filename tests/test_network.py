"""The network against plain numpy and scipy (`plain_network.py`)."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from plain_network import (
    array,
    close,
    np_convolution,
    np_gdfn,
    np_linear,
    np_mdta,
    np_norm,
    np_sigmoid,
    np_sobel,
    np_two_convolutions,
    stir,
)
from torch import nn
from torch.nn import functional as F

from fusionlib import network
from fusionlib.network import FusionNet, NetworkConfig

SMALL = NetworkConfig(embed=24, width=8, blocks=1, heads=2, reduction=2)
ABLATIONS = [
    pytest.param(cii, cff, id=f"cii={cii}-cff={cff}")
    for cii, cff in itertools.product((True, False), repeat=2)
]


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def inputs(height=12, width=14, config=SMALL, batch=2):
    ir, vi = torch.rand(batch, 1, height, width), torch.rand(batch, 3, height, width)
    return (
        2 * ir - 1,
        2 * vi - 1,
        torch.randn(batch, config.embed),
        torch.randn(batch, config.embed),
    )


# --- Sobel ----------------------------------------------------------------------------------------


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


def test_sobel_of_ramps_is_eight_times_the_slope():
    right = torch.arange(6.0).expand(1, 1, 5, 6) * 0.5
    g_x, g_y = network.sobel(right)
    assert (g_x[..., 1:-1] == 4).all() and (g_x[..., [0, -1]] == 2).all() and (g_y == 0).all()
    g_x, g_y = network.sobel(-right.transpose(2, 3))
    assert (g_y[..., 1:-1, :] == -4).all() and (g_x == 0).all()


@pytest.mark.parametrize("size", [(9, 7), (1, 6), (6, 1), (1, 1), (2, 2)])
def test_sobel_equals_scipy(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    found = network.sobel(x)
    for index in range(2):
        for mine, other in zip(found, np_sobel(array(x[index])), strict=True):
            close(mine[index], other, 1e-12)


# --- Restormer block ------------------------------------------------------------------------------


def test_channel_norm_equals_numpy():
    norm = stir(network.ChannelNorm(6)).double()
    x = 3 + 5 * torch.randn(2, 6, 4, 5, dtype=torch.float64)
    close(norm(x), np.stack([np_norm(norm, array(image)) for image in x]), 1e-9)


def test_attention_equals_the_restormer_paper():
    module = stir(network.TransposedAttention(12, heads=3)).double()
    x = torch.randn(2, 12, 5, 7, dtype=torch.float64)
    close(module(x), np.stack([np_mdta(module, array(image)) for image in x]), 1e-9)


def test_attention_equals_the_formulation_with_normalize():
    """As the authors of Restormer published it."""
    module = stir(network.TransposedAttention(8, heads=2))
    x = torch.randn(2, 8, 6, 5)
    q, k, v = module.qkv_local(module.qkv(x)).reshape(2, 3, 2, 4, 30).unbind(1)
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    out = ((q @ k.transpose(-2, -1)) * module.temperature).softmax(dim=-1) @ v
    close(module(x), array(module.project(out.reshape(2, 8, 6, 5))))


def test_attention_of_a_constant_zero_is_zero_with_finite_gradients():
    module = network.TransposedAttention(8, heads=2)
    out = module(torch.zeros(1, 8, 4, 4))
    out.sum().backward()
    assert (out == 0).all()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


def test_feed_forward_equals_the_restormer_paper():
    module = stir(network.GatedFeedForward(6, 2.66)).double()
    assert module.project.in_channels == 15  # ⌊6 · 2.66⌋
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    close(module(x), np.stack([np_gdfn(module, array(image)) for image in x]), 1e-9)


def test_block_normalises_before_and_adds_after():
    block = stir(network.RestormerBlock(8, 2, 2.66)).double()
    x = array(torch.randn(8, 5, 6, dtype=torch.float64))
    middle = x + np_mdta(block.attention, np_norm(block.norm_attention, x))
    expected = middle + np_gdfn(block.feed_forward, np_norm(block.norm_feed_forward, middle))
    close(block(torch.from_numpy(x)[None])[0], expected, 1e-9)


def reach(module, x, row, column):
    """Largest distance from a changed pixel at which the output changes."""
    other = x.clone()
    other[..., row, column] += 1
    changed = (module(other) - module(x)).abs().amax(dim=(0, 1)) > 0
    rows, columns = changed.nonzero().unbind(1)
    return int(torch.maximum((rows - row).abs(), (columns - column).abs()).max())


def test_attention_is_global_and_convolutions_are_local():
    x = torch.randn(1, 8, 13, 17, dtype=torch.float64)
    attention = stir(network.TransposedAttention(8, 2)).double()
    assert reach(attention, x, 0, 0) == 16  # up to the last column
    assert reach(stir(network.GatedFeedForward(8, 2.66)).double(), x, 6, 8) == 1
    assert reach(stir(network.feature_extraction(8, 8)).double(), x, 6, 8) == 1
    assert reach(stir(network.two_convolutions(8, 4, 2)).double(), x, 6, 8) == 2


def test_feature_extraction_is_convolution_batch_norm_leaky_relu():
    layer = stir(network.feature_extraction(3, 4)).double()
    x = torch.randn(3, 6, 5, dtype=torch.float64)
    convolution, norm, _ = layer
    y = np_convolution(convolution, array(x))
    mean, variance, weight, bias = (
        array(t)[:, None, None]
        for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    y = (y - mean) / np.sqrt(variance + 1e-5) * weight + bias
    close(layer(x[None])[0], np.where(y > 0, y, 0.2 * y), 1e-9)
    assert (y < 0).any() and (y > 0).any()


# --- CII and CFF ----------------------------------------------------------------------------------


def test_injection_equals_equations_1_and_2():
    cii = stir(network.InformationInjection(SMALL)).double()
    f = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    c_ir, c_vi = torch.randn(2, 2, 24, dtype=torch.float64)
    out = cii(f, c_ir, c_vi)
    w_i = array(cii.w_ir)
    w_v = 1 - w_i
    for b in range(2):
        mixed = w_i * array(c_ir[b]) + w_v * array(c_vi[b])
        semantic = np_linear(cii.adapter, mixed)
        w = np_sigmoid(np_two_convolutions(cii.sep, array(f[b])))
        assert semantic.shape == (8,) and w.shape == (8, 5, 6)
        close(out[b], array(f[b]) + w * semantic[:, None, None], 1e-9)


def test_injection_starts_undecided_between_the_two_sources():
    cii = network.InformationInjection(SMALL)
    f, (c_ir, c_vi) = torch.randn(2, 8, 4, 4), torch.randn(2, 2, 24)
    assert torch.equal(cii.w_ir, torch.full((24,), 0.5)) and cii.w_ir.requires_grad
    close(cii(f, c_ir, c_vi), array(cii(f, c_vi, c_ir)), 1e-6)
    with torch.no_grad():
        cii.w_ir.fill_(1)  # W_v = 0: only infrared counts
    assert torch.equal(cii(f, c_ir, c_vi), cii(f, c_ir, -c_vi))
    assert not torch.allclose(cii(f, c_ir, c_vi), cii(f, c_vi, c_ir))


def test_fusion_equals_equations_3_to_5():
    cff = stir(network.FeatureFusion(SMALL)).double()
    f_ir, f_vi = torch.randn(2, 2, 8, 5, 6, dtype=torch.float64)
    c_ir, c_vi = torch.randn(2, 2, 24, dtype=torch.float64)
    out = cff(f_ir, f_vi, c_ir, c_vi)
    assert out.shape == (2, 16, 5, 6)
    for b in range(2):
        w_i = np_linear(cff.ira, array(c_ir[b]))[:, None, None]
        w_v = np_linear(cff.via, array(c_vi[b]))[:, None, None]
        f_f = np.concatenate([w_i * array(f_ir[b]), w_v * array(f_vi[b])])
        g_x, g_y = np_sobel(f_f)
        w_s = np_sigmoid(np_two_convolutions(cff.sawp, np.abs(g_x) + np.abs(g_y)))
        assert w_s.shape == (1, 5, 6)
        close(out[b], f_f + w_s * f_f, 1e-9)


# --- Inventory ------------------------------------------------------------------------------------


def kinds(module):
    return [type(m) for m in module.modules() if not list(m.children())]


def test_modules_are_those_the_paper_names():
    net = FusionNet(NetworkConfig())
    two_linear = [nn.Linear, nn.Linear]
    assert kinds(net.cii_ir.adapter) == kinds(net.cii_vi.adapter) == two_linear
    assert kinds(net.cff.ira) == kinds(net.cff.via) == two_linear
    for module in (net.cii_ir.sep, net.cii_vi.sep, net.cff.sawp):
        assert kinds(module) == [nn.Conv2d, nn.ReLU, nn.Conv2d]
    for encoder, channels in ((net.ire, 1), (net.vie, 3)):
        first, second, blocks = encoder
        for layer, channels_in in ((first, channels), (second, 32)):
            assert kinds(layer) == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
            assert (layer[0].in_channels, layer[0].out_channels) == (channels_in, 32)
        assert [type(b) for b in blocks] == [network.RestormerBlock] * 2
    blocks, layer, last, activation = net.decoder
    assert [type(b) for b in blocks] == [network.RestormerBlock] * 2
    assert kinds(layer) == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert isinstance(last, nn.Conv2d) and last.out_channels == 1
    assert isinstance(activation, nn.Tanh)


def test_convolutions_are_three_by_three_stride_one():
    """Except the 1×1 ones that belong to Restormer."""
    for name, module in FusionNet(NetworkConfig()).named_modules():
        if isinstance(module, nn.Conv2d):
            inside = name.endswith((".qkv", ".project", ".expand"))
            assert module.kernel_size == ((1, 1) if inside else (3, 3)), name
            assert module.stride == (1, 1)
            assert module.padding == ((0, 0) if inside else (1, 1)), name


def test_infrared_and_visible_encoder_share_no_weights():
    net = FusionNet(SMALL)
    own = [{id(p) for p in m.parameters()} for m in (net.ire, net.vie, net.cii_ir, net.cii_vi)]
    assert all(not a & b for a, b in itertools.combinations(own, 2))


@pytest.mark.parametrize("blocks", [1, 3])
def test_number_of_parameters(blocks):
    e, c, h, r = 512, 16, 2, 8

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

    encoders = sum(layer(n, c) + layer(c, c) + blocks * block(c) for n in (1, 3))
    cii = e + linear(e, e // r, c) + convolutions(c, c, c)
    cff = 2 * linear(e, e // r, c) + convolutions(2 * c, c, 1)
    decoder = blocks * block(2 * c) + layer(2 * c, c) + convolutions(c, 1)
    for use_cii, use_cff in itertools.product((True, False), repeat=2):
        net = FusionNet(NetworkConfig(e, c, blocks, h, 2.66, r, use_cii, use_cff))
        found = sum(p.numel() for p in net.parameters())
        assert found == encoders + 2 * cii * use_cii + cff * use_cff + decoder


# --- The whole network ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 1), (2, 3), (17, 23), (32, 32)])
def test_output_has_the_size_of_the_input(size):
    net = FusionNet(SMALL).eval()
    out = net(*inputs(*size))
    assert out.shape == (2, 1, *size)
    assert out.isfinite().all() and out.abs().max() <= 1


def test_output_stays_in_range_where_the_last_convolution_does_not():
    net = FusionNet(SMALL).eval()
    ir, vi, c_ir, c_vi = inputs()
    plain = net(ir, vi, c_ir, c_vi)
    with torch.no_grad():
        net.decoder[2].weight *= 1000
    out = net(ir, vi, c_ir, c_vi)
    assert out.abs().max() <= 1 and out.min() < -0.99 and out.max() > 0.99
    assert plain.abs().max() < 0.99


@pytest.mark.parametrize(("use_cii", "use_cff"), ABLATIONS)
def test_ablations_keep_what_the_paper_says(use_cii, use_cff):
    config = dataclasses.replace(SMALL, use_cii=use_cii, use_cff=use_cff)
    net = stir(FusionNet(config)).double()
    ir, vi, c_ir, c_vi = (x.double() for x in inputs())
    # mean square of an entry is 1, whatever the encoder's scale
    n_ir, n_vi = (c / (c**2).mean(dim=1, keepdim=True).sqrt() for c in (c_ir, c_vi))
    f_ir, f_vi = net.ire(ir), net.vie(vi)
    if use_cii:
        f_ir, f_vi = net.cii_ir(f_ir, n_ir, n_vi), net.cii_vi(f_vi, n_ir, n_vi)
    f = net.cff(f_ir, f_vi, n_ir, n_vi) if use_cff else torch.cat([f_ir, f_vi], dim=1)
    out = net(ir, vi, c_ir, c_vi)
    close(out, array(net.decoder(f)), 1e-9)
    assert any("cii" in key for key in net.state_dict()) == use_cii
    assert any("cff" in key for key in net.state_dict()) == use_cff

    guided = use_cii or use_cff
    for others in ((-c_ir, c_vi), (c_ir, -c_vi)):
        difference = (net(ir, vi, *others) - out).abs().max()
        assert difference > 1e-4 if guided else difference == 0
    for others in ((-ir, vi), (ir, -vi)):
        assert (net(*others, c_ir, c_vi) - out).abs().max() > 1e-4


def test_scale_of_the_encoder_features_does_not_matter():
    net = stir(FusionNet(SMALL)).double()
    ir, vi, c_ir, c_vi = (x.double() for x in inputs())
    out = net(ir, vi, c_ir, c_vi)
    close(net(ir, vi, 10 * c_ir, 0.01 * c_vi), array(out), 1e-9)
    assert (net(ir, vi, c_ir.roll(1, dims=1), c_vi) - out).abs().max() > 1e-4


def test_images_of_a_batch_do_not_mix():
    net = stir(FusionNet(SMALL)).double()
    batch = [x.double() for x in inputs()]
    alone = torch.cat([net(*(x[b : b + 1] for x in batch)) for b in range(2)])
    close(net(*batch), array(alone), 1e-9)
    assert not torch.allclose(alone[0], alone[1])


@pytest.mark.parametrize(("use_cii", "use_cff"), ABLATIONS)
def test_every_parameter_learns(use_cii, use_cff):
    net = FusionNet(dataclasses.replace(SMALL, use_cii=use_cii, use_cff=use_cff)).train()
    net(*inputs()).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name
