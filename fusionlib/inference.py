"""Fuse a pair of arrays, a pair of files, or two folders."""

import ctypes
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from fusionlib.checks import Issue, read_pairs, require_apart, require_fitting
from fusionlib.datasets import load_pair
from fusionlib.encoder import ImageEncoder, load_encoder
from fusionlib.errors import ImageError, PairError
from fusionlib.images import is_grey, replace_luma, save_image
from fusionlib.network import FusionNet
from fusionlib.pairing import Pair
from fusionlib.tiles import GPU_TILE, TILE, fuse_banded, without_batch_norm
from fusionlib.weights import Weights, load_weights

LEAST_SIDE = 16  # smaller images are continued at their borders; the encoder cannot see one pixel


@dataclass(frozen=True)
class Fuser:
    """A network and its encoder, ready to fuse.

    Attributes:
        weights: network and where it comes from.
        encoder: frozen image encoder the network was trained with.
        device: where both live.
        precision: of the network, ``fp32`` or ``bf16``. With AVX-512 BF16 or AMX bf16 is faster:
            at 640×480 it took 0.76 of the time on an AMD Zen 5, 0.75 on an Intel Xeon
            (``benchmarks/inference.csv``). It moves few pixels by more than a grey level. The
            encoder stays fp32.
    """

    weights: Weights
    encoder: ImageEncoder
    device: torch.device
    precision: Literal["fp32", "bf16"] = "fp32"

    @cached_property
    def net(self) -> FusionNet:
        """A copy of ``weights.net`` as it was at first use, with BatchNorm in its convolutions."""
        net = without_batch_norm(self.weights.net)
        return net.to(torch.bfloat16) if self.precision == "bf16" else net

    @torch.inference_mode()
    def __call__(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        """Fuse one pair.

        Args:
            ir: infrared, (H, W), in [0, 1]; any size.
            vi: visible RGB, (H, W, 3), in [0, 1].

        Returns:
            Fused luma, (H, W), float32 in [0, 1].

        Raises:
            PairError: shapes do not fit.
            ImageError: values outside [0, 1] or not finite, or not enough memory.

        Warns:
            RuntimeWarning: a GPU's memory ran out at first; the result is the same.
        """
        check_arrays(ir, vi)
        height, width = ir.shape
        below, right = max(0, LEAST_SIDE - height), max(0, LEAST_SIDE - width)
        ir = np.pad(ir, ((0, below), (0, right)), mode="edge")
        vi = np.pad(vi, ((0, below), (0, right), (0, 0)), mode="edge")
        inputs = to_tensors(ir, vi, self.device)
        features = [self.encoder(image) for image in inputs]
        for image in inputs:  # np.pad has made them copies
            image.mul_(2).sub_(1)
        fused = (self._in_bands(*inputs, *features) + 1) / 2
        return fused[0, 0, :height, :width].cpu().numpy()

    def _in_bands(self, *inputs: Tensor) -> Tensor:
        """Inputs and output of `FusionNet.forward`; on a GPU one more try if memory runs out."""
        height, width = inputs[0].shape[-2:]
        size, failed = f"{width}×{height}", None
        for tile in (TILE,) if self.device.type == "cpu" else (GPU_TILE, GPU_TILE // 2):
            if failed:
                torch.cuda.empty_cache()
                note = f"{size}: out of memory, once more in tiles of at most {tile} pixels a side"
                warnings.warn(note, RuntimeWarning, stacklevel=3)
            try:
                return fuse_banded(self.net, *inputs, tile=tile)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                # the traceback would keep the tensors of this try
                failed = error.with_traceback(None)
        values = 2 * self.net.config.width * height * width
        map_size = values * self.net.decoder[-2].weight.element_size()
        raise ImageError(
            f"{size}: not enough memory on {self.device}, where its feature map alone takes "
            f"{map_size / 1e9:.1f} GB; free some, or make the images smaller"
        ) from failed


def check_arrays(ir: np.ndarray, vi: np.ndarray) -> None:
    """Infrared (H, W) and visible RGB (H, W, 3), both in [0, 1].

    Raises:
        PairError: shapes do not fit.
        ImageError: values outside [0, 1] or not finite, or none.
    """
    if ir.ndim != 2 or vi.shape != (*ir.shape, 3):
        raise PairError(f"shapes {ir.shape} and {vi.shape}: expected (H, W) and (H, W, 3)")
    for name, image in (("ir", ir), ("vi", vi)):
        if not (image.size and image.min() >= 0 and image.max() <= 1):  # False for NaN
            raise ImageError(f"{name}: expected values in [0, 1], at least one")


def to_tensors(
    ir: np.ndarray, vi: np.ndarray, device: str | torch.device = "cpu"
) -> tuple[Tensor, Tensor]:
    """(H, W) and (H, W, 3) → (1, 1, H, W) and (1, 3, H, W), float32, values unchanged."""
    ir_tensor, vi_tensor = torch.from_numpy(ir)[None, None], torch.from_numpy(vi).permute(2, 0, 1)
    return ir_tensor.float().to(device), vi_tensor[None].float().to(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is the system's or PyTorch's way to say that memory ran out."""
    messages = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        message in str(error) for message in messages
    )


def load_fuser(
    weights: Path | str | None = None,
    encoder: str | None = None,
    device: str | torch.device = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Fuser:
    """Load weights and the encoder they were trained with.

    Args:
        weights: weights file; None for the shipped ones.
        encoder: name for `fusionlib.encoder.load_encoder`; None for the one the weights name.
        device: ``cpu``, ``cuda``, …
        precision: see `Fuser`.

    Raises:
        EncoderError: the encoder cannot be built.
        WeightsError: the weights are damaged, or were trained with another encoder.
    """
    built = load_encoder(encoder or load_weights(weights).encoder)
    loaded = load_weights(weights, built)
    device = torch.device(device)
    loaded.net.to(device, memory_format=torch.channels_last)
    return Fuser(loaded, built.to(device), device, precision)


def fuse_pair(fuser: Fuser, pair: Pair, *, grey: bool = False, **reading: object) -> np.ndarray:
    """Read and fuse one pair of files.

    Args:
        fuser: from `load_fuser`.
        pair: the files.
        grey: return the fused luma also when the visible image has colour.
        reading: options of `fusionlib.datasets.load_pair`.

    Returns:
        (H, W, 3) with the colour of the visible image, or (H, W) if ``grey`` or it has none;
        float32 in [0, 1].
    """
    return in_colour(fuser, *load_pair(pair, **reading), grey)


def fuse_files(
    fuser: Fuser,
    pairs: Sequence[Pair],
    out: Path | str,
    issues: list[Issue] | None = None,
    *,
    suffix: str = ".png",
    grey: bool = False,
    done: Collection[Path] = (),
    on_bad: Literal["error", "skip"] = "error",
    **reading: object,
) -> Iterator[Path]:
    """Fuse pairs into ``out/<name><suffix>``, yielding each path once it is there.

    Args:
        fuser: from `load_fuser`.
        pairs: the files.
        out: folder, made if needed.
        issues: gets what is doubtful about the pairs, see `fusionlib.checks.read_pairs`.
        suffix: of the format.
        grey: see `fuse_pair`.
        done: results that are there and stay as they are; their pairs are only looked at.
        on_bad: a pair that cannot be read is an error, or an issue and left out.
        reading: options of `fusionlib.datasets.load_pair`.

    Raises:
        FusionError: a result would replace one of the sources; at once.
        PairError: a pair does not fit; at once, from the headers, before anything is fused.
        ImageError: a file is damaged.
    """
    targets = {pair.name: Path(out) / f"{pair.name}{suffix}" for pair in pairs}
    require_apart(targets.values(), [path for pair in pairs for path in (pair.ir, pair.vi)])
    if on_bad == "error":
        require_fitting(pairs, resize=reading.get("resize"), frame=reading.get("frame"))

    def fuse_each() -> Iterator[Path]:
        found = read_pairs(pairs, [] if issues is None else issues, on_bad=on_bad, **reading)
        quiet = {"disable": True} if len(pairs) == 1 else {}  # else as $TQDM_DISABLE says
        for pair, ir, vi in tqdm(found, desc="fusing", unit="pair", total=len(pairs), **quiet):
            target = targets[pair.name]
            if target not in done:
                save_image(target, in_colour(fuser, ir, vi, grey), like=pair.vi)
            yield target

    return fuse_each()


def in_colour(fuser: Fuser, ir: np.ndarray, vi: np.ndarray, grey: bool) -> np.ndarray:
    """Fused luma (H, W), or (H, W, 3) with the colour that ``vi`` has; see `fuse_pair`."""
    y = fuser(ir, vi)
    return y if grey or is_grey(vi) else replace_luma(vi, y)


def reuse_memory() -> bool:
    """Ask glibc to keep freed memory: fusing 640×480 then took 0.8 of the time on an Intel Xeon.

    A choice for a whole process, so the command line makes it and importing never does.

    Returns:
        Whether it took effect (False without glibc).
    """
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # of malloc.h, with M_ before
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = (mmap_max, 0), (trim_threshold, 2**31 - 1), (arena_max, 1)
    return all(mallopt(*setting) for setting in settings)
