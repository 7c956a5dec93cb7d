"""The one interface of all methods of the comparison."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fusionlib.baselines.published import Renaming, WeightsFile, listed, load_network
from fusionlib.errors import ImageError, WeightsError
from fusionlib.inference import check_arrays

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Method:
    """A fusion method: what it is called, and how to fuse with it.

    Attributes:
        name: key of the registry, and the folder of its results.
        title: what tables and captions call it.
        group: ``paper`` (in the paper's tables), ``additional`` (learned, not in them) or
            ``classical`` (nothing learned).
        least_side: smallest height and width it fuses.
        weights: published files it needs.
    """

    name: str
    title: str
    group: Literal["paper", "additional", "classical"]
    least_side: ClassVar[int] = 1
    weights: ClassVar[tuple[WeightsFile, ...]] = ()

    def fuse(self, ir: Array, vi: Array) -> Array:
        """Fuse one pair.

        Args:
            ir: infrared, (H, W), in [0, 1].
            vi: visible RGB, (H, W, 3), in [0, 1].

        Returns:
            Fused luma, (H, W), float32 in [0, 1]. Of a published network, `images.save_image`
            makes exactly the grey levels that its authors' program saves.

        Raises:
            PairError: shapes do not fit.
            ImageError: values outside [0, 1] or not finite, or a side below ``least_side``.
            WeightsError: published weights are missing or not what was published.
        """
        check_arrays(ir, vi)
        if min(ir.shape) < self.least_side:
            raise ImageError(
                f"{self.title} cannot fuse {ir.shape[1]}×{ir.shape[0]}: "
                f"each side must have at least {self.least_side} pixels"
            )
        return self._fuse(ir, vi).astype(np.float32)

    def missing(self) -> str | None:
        """Why it cannot run on this machine now, and what to do; None if it can."""
        try:
            for file in self.weights:
                file.read()
        except WeightsError as error:
            return str(error)
        return None


@dataclass(frozen=True, kw_only=True)
class ArrayMethod(Method):
    """A method that is a function of two arrays.

    Attributes:
        rule: (infrared (H, W), visible RGB (H, W, 3)), in [0, 1] → luma (H, W) in [0, 1].
    """

    rule: Callable[[Array, Array], Array]

    def _fuse(self, ir: Array, vi: Array) -> Array:
        return self.rule(ir, vi)


@dataclass(frozen=True, kw_only=True)
class NetworkMethod(Method):
    """A published network with its published weights: 8 bit in, 8 bit out, as its authors run it.

    Attributes:
        build: makes the network, not yet filled.
        apply: (filled network, infrared (H, W), visible RGB (H, W, 3)), both uint8, → (H, W) uint8,
            with the authors' pre- and post-processing.
        renamed: see `fusionlib.baselines.published.load_network`.
    """

    build: Callable[[], nn.Module]
    apply: Callable[[nn.Module, Array, Array], Array]
    renamed: Renaming = ()
    least_side: ClassVar[int] = 4  # some halve the image twice, or reflect its border

    @property
    def weights(self) -> tuple[WeightsFile, ...]:
        """Its rows of the list."""
        return listed(self.name)

    def network(self) -> nn.Module:
        """The network with its published weights, verified, in evaluation mode, on the CPU.

        Raises:
            WeightsError: missing, not what was published, or of another network.
        """
        return load_network(self.build(), self.weights, self.renamed)

    def _fuse(self, ir: Array, vi: Array) -> Array:
        levels = (np.rint(image * 255).astype(np.uint8) for image in (ir, vi))
        with torch.inference_mode():
            fused = self.apply(self.network(), *levels)
        return fused / np.float32(255)


def grey(vi: Array) -> Array:
    """Grey levels as Pillow's mode L, which most authors read: (H, W, 3) → (H, W), uint8."""
    return np.asarray(Image.fromarray(vi).convert("L"))


def unit_tensor(levels: Array) -> Tensor:
    """(H, W) uint8 → (1, 1, H, W), float32 in [0, 1]."""
    return torch.from_numpy(levels.astype(np.float32) / np.float32(255))[None, None]


def truncated(levels: Tensor) -> Array:
    """(1, 1, H, W) in [0, 255] → (H, W) uint8, cut off and not rounded."""
    return levels[0, 0].numpy().astype(np.uint8)
