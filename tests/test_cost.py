"""Costs: counted against numbers worked out by hand."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from fusionlib import cost
from fusionlib.banded import fuse_banded
from fusionlib.baselines import lrrnet
from fusionlib.errors import WeightsError
from fusionlib.network import FusionNet, NetworkConfig

SIZE = (24, 32)


def arrays(height, width):
    return np.zeros((height, width), np.float32), np.zeros((height, width, 3), np.float32)


def test_a_convolution_counts_its_taps():
    conv = nn.Conv2d(1, 5, 3, padding=1, bias=False)

    def fuse(ir, vi):
        return conv(torch.from_numpy(ir)[None, None])

    assert cost._count_operations(fuse, *arrays(4, 6)) == 4 * 6 * 5 * 9
    assert cost._count(conv) == 45


def test_products_in_place_count_too():
    net = lrrnet.LRRNet()

    def fuse(ir, vi):
        tensor = torch.from_numpy(ir)[None]
        return net(tensor, tensor)

    encoder = 9 * 256 * (1 + 4 + 4)  # W00, and four times there and back
    decoder = 4 * 9 * 128 + 2 * 9 * 2
    assert cost._count_operations(fuse, *arrays(4, 6)) == 4 * 6 * (2 * encoder + decoder)


def test_one_tile_costs_what_the_network_does():
    """Tiles compute 1×1 convolutions by another operator, which must be counted all the same."""
    net = FusionNet(NetworkConfig(embed=8)).eval()
    ir, vi, c = torch.rand(1, 1, 24, 32), torch.rand(1, 3, 24, 32), torch.rand(1, 8)
    whole, tile = (
        cost._count_operations(lambda *_, f=fuse: f(ir, vi, c, c), *arrays(24, 32))
        for fuse in (torch.no_grad()(net), partial(fuse_banded, net))
    )
    # as a whole it also multiplies q with q and k with k: three products more a block
    blocks, width = net.config.blocks, net.config.width
    more = 3 * 24 * 32 * (2 * blocks * width**2 + blocks * (2 * width) ** 2)
    assert tile == pytest.approx(whole - more, rel=0.01) and whole > 1e8


def test_every_row_is_measured_in_a_process_of_its_own():
    costs = cost.measure_costs(["average", "ours"], size=SIZE, repeats=1, threads=1)
    assert list(costs.index) == ["average", "ours"] and tuple(costs.columns) == cost.COLUMNS[1:]
    plain, ours = costs.loc["average"], costs.loc["ours"]
    assert plain["parameters"] == plain["G multiply-adds"] == 0
    assert ours["parameters"] > 1e6 and ours["frozen encoder"] > 1e6
    assert ours["s/MP"] > plain["s/MP"] > 0
    assert not (costs["peak memory, MB"] < 0).any()


def test_an_unknown_method_is_an_error():
    with pytest.raises(WeightsError, match="no method 'nobody'"):
        cost.measure_costs(["nobody"], size=SIZE)
