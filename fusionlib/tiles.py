"""The network on an image of any size, in bounded memory and with the result of the whole image.

All but one operation of the network is local: an output pixel depends on input pixels at most three
rows or columns away. The exception is MDTA, whose cosines are made of sums over all pixels. So each
block takes two passes over the image: one adds up these sums, one applies what follows from them.
Both go through row bands that are cut into tiles. Bands bound the memory, because the one feature
map there is can be overwritten band by band. Tiles make it fast, because what a tile needs stays in
the processor's cache. On a CPU every thread takes a strip of bands for itself; threads that share
each single operation spend much of their time waiting for one another.

Feature maps of the whole image are (H, W, C), tiles (1, C, h, w) in channels_last.
"""

import copy
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fusionlib.network import FusionNet, RestormerBlock, convolution

TILE = 128  # pixels a side; smaller ones fit the cache, but more of them is halo
GPU_TILE = 1024  # large, so that a GPU has enough to do
LEAST_TILE = 6  # twice the largest halo

LEAST_STRIP = 32  # rows, below which a strip's halo costs more than another thread gains

Place = tuple[slice, slice]  # rows, columns
Result = TypeVar("Result")


@torch.inference_mode()
def fuse_banded(
    net: FusionNet, ir: Tensor, vi: Tensor, c_ir: Tensor, c_vi: Tensor, tile: int = TILE
) -> Tensor:
    """`FusionNet.forward` of one pair, in bands and tiles.

    Needs 8 C bytes a pixel for the feature map (0.33 GB at 1280×1024 with C = 32), half of that in
    bfloat16.

    Args:
        net: in evaluation mode, without or with BatchNorm (see `without_batch_norm`); in bfloat16
            for feature maps in bfloat16.
        ir: infrared, (1, 1, H, W), in [-1, 1].
        vi: visible RGB, (1, 3, H, W), in [-1, 1].
        c_ir: the encoder's features of ``ir``, (1, E).
        c_vi: the same of ``vi``.
        tile: largest height and width of a tile, in pixels; changes time and memory only.

    Returns:
        Fused luma, (1, 1, H, W), in [-1, 1]; differs from the whole image's by rounding.

    Raises:
        ValueError: more than one pair, or a tile below `LEAST_TILE`.
    """
    if len(ir) != 1 or tile < LEAST_TILE:
        raise ValueError(
            f"batch of {len(ir)}, tile of {tile}: expected 1, and {LEAST_TILE} or more"
        )
    scale = net.config.embed**0.5
    kind = net.decoder[-2].weight.dtype
    features = (F.normalize(c) * scale for c in (c_ir, c_vi))
    inputs = (x.to(kind) for x in (ir, vi, *features))
    with scissors(tile, torch.get_num_threads() if ir.device.type == "cpu" else 1) as cut:
        out = _decoded(net, *inputs, cut)
    return out.to(ir.dtype).permute(2, 0, 1)[None]  # (1, 1, H, W)


def _decoded(
    net: FusionNet, ir: Tensor, vi: Tensor, c_ir: Tensor, c_vi: Tensor, cut: "Scissors"
) -> Tensor:
    """What FD gives, (H, W, 1); the feature map is free again afterwards."""
    height, width = ir.shape[-2:]
    channels = net.config.width
    f = ir.new_empty(height, width, 2 * channels)  # F_i, F_v, later F_f
    f_ir, f_vi = f[..., :channels], f[..., channels:]
    for image, features, encoder in ((ir, f_ir, net.ire), (vi, f_vi, net.vie)):
        apply_local(encoder[:2], image[0].permute(1, 2, 0), features, 2, cut)
        for block in encoder[2]:
            apply_block(block, features, cut)
    if net.config.use_cii:
        apply_local(lambda x: net.cii_ir(x, c_ir, c_vi), f_ir, f_ir, 2, cut)
        apply_local(lambda x: net.cii_vi(x, c_ir, c_vi), f_vi, f_vi, 2, cut)
    if net.config.use_cff:
        apply_local(lambda x: net.cff.of_both(x, c_ir, c_vi), f, f, 3, cut)
    for block in net.decoder[0]:
        apply_block(block, f, cut)
    out = ir.new_empty(height, width, 1)
    apply_local(net.decoder[1:], f, out, 2, cut)
    return out


def without_batch_norm(net: FusionNet) -> FusionNet:
    """A copy for inference in which BatchNorm is part of the convolution before it."""
    net = copy.deepcopy(net).eval()
    for layer in net.modules():
        if isinstance(layer, nn.Sequential) and any(isinstance(m, nn.BatchNorm2d) for m in layer):
            layer[0], layer[1] = fuse_conv_bn_eval(layer[0], layer[1]), nn.Identity()
    return net


def cuts(length: int, size: int) -> Iterator[slice]:
    """Divide a length into the fewest parts of at most ``size``, about equally long."""
    step = math.ceil(length / math.ceil(length / size))
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


@dataclass(frozen=True)
class Scissors:
    """Cut an image into strips, one for each thread, these into bands, these into tiles.

    Attributes:
        size: largest height and width of a tile without its halo.
        threads: how many strips, if the image is high enough.
        run: calls a function with each of its arguments, like `map`.
    """

    size: int
    threads: int = 1
    run: Callable[..., Iterator] = map

    def strips(self, height: int) -> list[slice]:
        """Rows of each strip."""
        count = min(self.threads, math.ceil(height / LEAST_STRIP))
        return list(cuts(height, math.ceil(height / count)))

    def each_strip(self, work: Callable[[slice], Result], height: int) -> list[Result]:
        """What ``work`` makes of the rows of each strip, all at once."""
        return list(self.run(torch.inference_mode()(work), self.strips(height)))

    def places(self, x: Tensor, halo: int, strip: slice) -> Iterator[tuple[Place, Place, Place]]:
        """Where the tiles of a strip are, which also show ``halo`` pixels of their neighbours.

        At the image's own borders there is no halo, so that there a layer meets the border it
        would meet in the whole image: zeros around a convolution, replicated pixels around Sobel.

        Args:
            x: (H, W, C).
            halo: pixels by which a tile is larger on each side.
            strip: its rows.

        Yields:
            The place in ``x`` of a tile with its halo, of what is no halo, and in the tile of that.
        """
        for part in cuts(strip.stop - strip.start, self.size):
            rows = _moved(part, strip.start)
            top, bottom = max(0, rows.start - halo), min(x.shape[0], rows.stop + halo)
            for columns in cuts(x.shape[1], self.size):
                left, right = max(0, columns.start - halo), min(x.shape[1], columns.stop + halo)
                around = slice(top, bottom), slice(left, right)
                yield around, (rows, columns), (_moved(rows, -top), _moved(columns, -left))


@contextmanager
def scissors(size: int, threads: int = 1) -> Iterator[Scissors]:
    """Scissors with threads of their own, each of which computes by itself."""
    if threads == 1:
        yield Scissors(size)
        return
    try:
        with ThreadPoolExecutor(threads, "tiles", torch.set_num_threads, (1,)) as pool:
            yield Scissors(size, threads, pool.map)
    finally:
        torch.set_num_threads(threads)  # the 1 would also hold for threads that start later


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def apply_local(
    function: Callable[[Tensor], Tensor], x: Tensor, out: Tensor, reach: int, cut: Scissors
) -> None:
    """Apply a local function tile by tile.

    Args:
        function: (1, C, h, w), which it may overwrite, → (1, C', h, w).
        x: (H, W, C).
        out: (H, W, C'), overwritten; may be ``x`` itself.
        reach: how far an output pixel looks, in pixels; at most half of a tile.
        cut: how to cut.
    """
    # what was around a strip, above a band and to the left of a tile before it was overwritten
    around = {
        rows.start: (x[: rows.start][-reach:].clone(), x[rows.stop :][:reach].clone())
        for rows in cut.strips(len(x))
    }

    def work(strip: slice) -> None:
        last_rows, below = around[strip.start]
        last_columns = x[:0]
        for (rows, columns), place, inner in cut.places(x, reach, strip):
            if place[1].start == 0:  # the first of a band
                above, last_rows = last_rows, x.new_empty(reach, *x.shape[1:])
            tile = x[rows, columns].clone()
            tile[: inner[0].start] = above[:, columns]
            if rows.stop > strip.stop:
                tile[inner[0].stop :] = below[:, columns]
            if inner[1].start:
                tile[:, : inner[1].start] = last_columns
            last_columns = tile[:, inner[1]][:, -reach:].clone()
            bottom = tile[inner][-reach:]  # fewer rows only in a last band, which none follows
            last_rows[: len(bottom), place[1]] = bottom
            out[place] = function(as_image(tile))[0].permute(1, 2, 0)[inner]

    cut.each_strip(work, len(x))


def as_image(x: Tensor) -> Tensor:
    """(h, w, C) → (1, C, h, w), with strides that PyTorch knows as channels_last."""
    return x[None].permute(0, 3, 1, 2)


def apply_block(block: RestormerBlock, x: Tensor, cut: Scissors) -> None:
    """Apply a Restormer block to (H, W, C) in place."""
    attention = block.attention
    mix = attention.mixing(*attention_sums(block, x, cut)).to(x.dtype)[..., None, None]

    def apply(tile: Tensor) -> Tensor:
        convolution(attention.values(block.norm_attention(tile)), mix[0], onto=tile)
        return block.feed_forward(block.norm_feed_forward(tile), onto=tile)

    apply_local(apply, x, x, 2, cut)


def attention_sums(block: RestormerBlock, x: Tensor, cut: Scissors) -> tuple[Tensor, Tensor]:
    """`TransposedAttention.sums` of the whole image, added up over its tiles.

    Args:
        block: the block.
        x: its input, (H, W, C).
        cut: how to cut.

    Returns:
        (1, C, C) and (1, 2C), in float32 at least: bfloat16 has too few digits for sums.
    """

    def work(strip: slice) -> tuple[Tensor, Tensor]:
        products = squares = x.new_zeros((), dtype=torch.promote_types(x.dtype, torch.float32))
        for around, _, (rows, columns) in cut.places(x, 1, strip):
            qk = block.attention.queries_and_keys(block.norm_attention(as_image(x[around])))
            qk[..., : rows.start, :], qk[..., rows.stop :, :] = 0, 0  # the neighbours' own pixels;
            qk[..., : columns.start], qk[..., columns.stop :] = 0, 0  # cheaper than a copy
            sums = block.attention.sums(qk.to(products.dtype))
            products, squares = products + sums[0], squares + sums[1]
        return products, squares

    products, squares = zip(*cut.each_strip(work, len(x)), strict=True)
    return sum(products), sum(squares)
