"""Bands and tiles against `FusionNet.forward`, which knows nothing of them."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from plain_network import stir
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fusionlib import tiles
from fusionlib.network import FusionNet, NetworkConfig
from fusionlib.weights import load_weights

SMALL = NetworkConfig(embed=24, width=8, blocks=2, heads=2, reduction=2)


@pytest.fixture(autouse=True, params=[1, 3], ids=["one thread", "three threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield request.param
    torch.set_num_threads(before)


def network(**changes):
    return stir(FusionNet(dataclasses.replace(SMALL, **changes)).double())


def inputs(height, width, embed=SMALL.embed, dtype=torch.float64):
    ir, vi = torch.rand(1, 1, height, width, dtype=dtype), torch.rand(1, 3, height, width).to(dtype)
    c_ir, c_vi = torch.randn(2, 1, embed, dtype=dtype)
    return 2 * ir - 1, 2 * vi - 1, c_ir, c_vi


def close(actual, expected, tolerance=1e-9):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@torch.no_grad()
def whole(net, images):
    out = net(*images)
    assert out.numel() == 1 or out.std() > 0.01  # a constant would be equal for the wrong reason
    return out


@pytest.mark.parametrize("tile", [6, 8, 13, 64])
@pytest.mark.parametrize("size", [(1, 1), (1, 29), (29, 1), (2, 3), (17, 23), (97, 20)])
def test_r43_tiles_give_the_result_of_the_whole_image(size, tile):
    net, images = network(), inputs(*size)
    close(tiles.fuse_banded(net, *images, tile), whole(net, images))


@pytest.mark.parametrize(("use_cii", "use_cff"), [(True, False), (False, True), (False, False)])
def test_r43_so_they_do_without_cii_and_cff(use_cii, use_cff):
    net, images = network(use_cii=use_cii, use_cff=use_cff), inputs(19, 26)
    close(tiles.fuse_banded(net, *images, 7), whole(net, images))


def test_r43_tiles_of_the_shipped_network_differ_by_rounding():
    """Also when BatchNorm has disappeared into the convolutions of a copy."""
    net = load_weights().net
    folded = tiles.without_batch_norm(net)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == 5
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    images = inputs(61, 45, net.config.embed, torch.float32)
    expected = whole(net, images)
    close(whole(folded, images), expected, 1e-5)
    for tile in (16, 40, 100):
        close(tiles.fuse_banded(net, *images, tile), expected, 1e-5)
        close(tiles.fuse_banded(folded, *images, tile), expected, 1e-5)


def test_sums_over_many_tiles_of_bfloat16_lose_nothing():
    """1000 tiles alike have the attention of one, though 256 + 1 = 256 in bfloat16."""
    block = network().ire[2][0].to(torch.bfloat16)
    nn.init.zeros_(block.attention.qkv_local.weight)
    nn.init.ones_(block.attention.qkv_local.weight[..., 1, 1])  # no neighbours
    one = torch.randn(6, 6, SMALL.width, dtype=torch.bfloat16)
    expected, actual = (
        block.attention.mixing(*tiles.attention_sums(block, x, tiles.Scissors(6)))
        for x in (one, one.tile(40, 25, 1))
    )
    close(actual, expected, 0.02)


class LargeStorages(TorchDispatchMode):
    """Notes the storages of all results that have more elements than a limit."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.found = limit, {}

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        out = function(*arguments, **(keywords or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.nbytes() > self.limit * tensor.element_size():
                    self.found[storage.data_ptr()] = storage
        return out


def test_r16_one_feature_map_is_all_that_grows_with_the_image():
    net, (height, width) = network(), (90, 110)
    images = inputs(height, width)
    limit = 4 * height * width  # more than the images, less than a feature map of C channels
    torch.set_num_threads(1)  # the mode sees this thread only
    with LargeStorages(limit) as seen:
        tiles.fuse_banded(net, *images, 12)
    assert [s.nbytes() for s in seen.found.values()] == [2 * SMALL.width * height * width * 8]
    with LargeStorages(limit) as seen:
        whole(net, images)
    assert len(seen.found) > 10


@pytest.mark.parametrize(("batch", "tile"), [(2, 80), (1, 5)])
def test_what_cannot_be_cut_is_refused(batch, tile):
    images = [x.expand(batch, *x.shape[1:]) for x in inputs(8, 8)]
    with pytest.raises(ValueError, match=f"batch of {batch}, tile of {tile}"):
        tiles.fuse_banded(network(), *images, tile)


def test_each_thread_computes_by_itself_and_later_ones_do_not(threads):
    with tiles.scissors(6, threads) as cut:
        inside = cut.each_strip(lambda rows: torch.get_num_threads(), 32 * threads)
    assert inside == [1] * threads
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == threads
