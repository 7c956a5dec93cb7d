"""Every method behind its interface, with random weights: sizes, ranges, errors, details."""

import hashlib
from dataclasses import replace

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
from fusionlib.baselines.method import NetworkMethod, grey
from fusionlib.errors import ImageError, PairError
from fusionlib.images import Image, save_image

NETWORKS = [name for name, method in METHODS.items() if method.weights]
PARTICULAR = ("LRRNet", "DIDFuse", "TarDAL", "DenseFuse", "SAGE")  # not any size


@pytest.fixture(scope="module", params=NETWORKS)
def method(request, tmp_path_factory):
    """A network method with random weights in files of its own, or with its shipped ones."""
    original = METHODS[request.param]
    if original.weights[0].shipped:
        yield original
        return
    torch.manual_seed(0)
    net = original.build()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    root = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FUSIONLIB_WEIGHTS", str(root))
        files, state = [], net.state_dict()
        for i, file in enumerate(original.weights):  # two files: every other key
            part = dict(list(state.items())[i :: len(original.weights)])
            file.path.parent.mkdir(exist_ok=True)
            torch.save(part if not file.entry else {file.entry: part}, file.path)
            data = file.path.read_bytes()
            files.append(replace(file, sha256=hashlib.sha256(data).hexdigest(), size=len(data)))
        yield replace(original, weights=tuple(files), renamed=())


def pair(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((height, width), dtype=np.float32), rng.random((height, width, 3))


@pytest.mark.parametrize("size", [(2, 2), (2, 9), (1, 3), (1, 1), (4, 7), (33, 58), (40, 301)])
def test_r17_networks_take_any_size_or_say_why_not(method, size):
    ir, vi = pair(*size)
    if min(size) < method.least_side:
        assert method.name in PARTICULAR
        with pytest.raises(ImageError, match=f"{method.title} cannot fuse {size[1]}×{size[0]}"):
            method.fuse(ir, vi)
        return
    y = method.fuse(ir, vi)
    assert y.shape == size and y.dtype == np.float32
    assert y.min() >= 0 and y.max() <= 1


def test_networks_give_whole_grey_levels_which_saving_keeps(method, tmp_path):
    y = method.fuse(*pair(20, 31))
    saved = np.asarray(Image.open(save_image(tmp_path / "a.png", y)))
    np.testing.assert_array_equal(saved, np.rint(y.astype(np.float64) * 255))
    assert np.abs(y * 255 - saved).max() < 1e-3


def test_r15_constant_images_are_no_division_by_zero(method):
    for level in (0, 0.5, 1):
        y = method.fuse(np.full((9, 8), level), np.full((9, 8, 3), level))
        assert np.isfinite(y).all()


def test_fusing_twice_gives_the_same_and_leaves_the_input_alone(method):
    ir, vi = pair(17, 23)
    before = ir.copy(), vi.copy()
    np.testing.assert_array_equal(method.fuse(ir, vi), method.fuse(ir, vi))
    np.testing.assert_array_equal(ir, before[0])
    np.testing.assert_array_equal(vi, before[1])


def test_networks_are_not_symmetric_in_their_inputs_except_where_they_add_or_choose(method):
    ir, y = pair(17, 23)[0], pair(17, 23, 1)[0]
    same = np.array_equal(
        method.fuse(ir, np.stack([y] * 3, 2)), method.fuse(y, np.stack([ir] * 3, 2))
    )
    assert same == (method.name in ("IFCNN", "DIDFuse", "DenseFuse"))


# ---- the interface


@pytest.mark.parametrize("name", METHODS)
def test_every_method_says_what_it_is(name):
    entry = METHODS[name]
    assert entry.name == name and entry.title and entry.source and entry.colour
    assert entry.group in ("paper", "additional", "classical")
    assert isinstance(entry, NetworkMethod) == bool(entry.weights)


@pytest.mark.parametrize("name", METHODS)
def test_r03_shapes_and_values_that_do_not_fit_are_named_errors(name):
    fuse = METHODS[name].fuse
    with pytest.raises(PairError, match=r"\(4, 5\) and \(5, 4, 3\)"):
        fuse(np.zeros((4, 5)), np.zeros((5, 4, 3)))
    with pytest.raises(PairError):
        fuse(np.zeros((4, 5)), np.zeros((4, 5)))
    with pytest.raises(ImageError, match="at least"):
        fuse(np.zeros((0, 5)), np.zeros((0, 5, 3)))
    for bad in (np.nan, 1.01, -0.01):
        with pytest.raises(ImageError, match="ir: expected values"):
            fuse(np.full((4, 5), bad), np.zeros((4, 5, 3)))
        with pytest.raises(ImageError, match="vi: expected values"):
            fuse(np.zeros((4, 5)), np.full((4, 5, 3), bad))


def test_grey_is_what_pillow_reads():
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [7, 7, 7]]], np.uint8)
    assert grey(rgb).tolist() == [[76, 150, 29, 7]]


# ---- details of one network each


class Constant(nn.Module):
    """Gives one image whatever comes in."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, ir, vi):
        return self.values.view(*([1] * (ir.ndim - 1)), -1)


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
    image = np.zeros((1, 3), np.uint8)
    assert module.apply(Constant(given), image, np.dstack([image] * 3)).tolist() == [levels]


def test_tardal_normalises_by_the_image_itself():
    norm, x = tardal.ImageNorm(2).eval(), torch.rand(1, 2, 5, 6)
    norm.running_mean.fill_(100)
    expected = (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(norm(x), expected, atol=1e-3, rtol=1e-3)
    assert (norm.running_mean == 100).all()


def test_datfuse_reads_16_neighbours_of_a_row_as_one_token():
    net = datfuse.DATFuse()
    seen = []
    net.basicLayer.blocks.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net.eval()(torch.rand(1, 1, 2, 16), torch.rand(1, 1, 2, 16))
    assert seen[0].shape == (1, 32, 16)  # 16 channels × 2 rows, each row of 16 pixels a token


def test_datfuse_attention_over_one_key_is_its_value():
    block = datfuse.TokenBlock()
    t = torch.randn(1, 4, 16)
    q, k, v = block.attn.qkv(block.norm1(t)).view(4, 3, 8, 1, 2).permute(1, 0, 2, 3, 4)
    mixed = F.scaled_dot_product_attention(q, k, v)  # 4 windows of one token, 8 heads
    t1 = t + block.attn.proj(mixed.reshape(1, 4, 16))
    t2 = t1 + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(t1))))
    torch.testing.assert_close(block(t), t2)


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


def test_lrrnet_keeps_one_code_at_a_time():
    biggest = 256 * 40 * 40 * 4
    with torch.profiler.profile(profile_memory=True) as profile, torch.no_grad():
        lrrnet.LRRNet()(torch.rand(1, 40, 40), torch.rand(1, 40, 40))
    held = highest = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    assert biggest <= highest < 1.5 * biggest
