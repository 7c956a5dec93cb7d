"""Why another paper prints another number: what widely used evaluators compute instead.

`evaluate(…, protocol="vif_sum")` and ``python -m fusionlib evaluate --protocol vif_sum`` reproduce
one of these deviations at a time; the default, ``ours``, is what `fusionlib.metrics` defines.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from skimage.metrics import structural_similarity

from fusionlib.errors import MetricError
from fusionlib.metrics import METRICS, Compute, Sources, Value, measure
from fusionlib.metrics.luma import Array, Luma, check


class Protocol(NamedTuple):
    """A way to compute the metrics that differs from ours in one thing."""

    name: str
    description: str  # what is done, and what it does to the values
    prepare: Callable[[Array], Array] = np.asarray  # what happens to the fused image first
    replaced: Mapping[str, Compute] = MappingProxyType({})  # metric → what is computed instead


def stretch(fused: ArrayLike) -> Array:
    """An 8-bit image stretched to 0…255 by its own minimum and maximum, rounded."""
    fused = np.asarray(fused)
    low, high = float(fused.min()), float(fused.max())
    if low == high:
        return fused
    return np.rint((fused.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)


def _ssim_uniform(ir: Luma, vi: Luma, fused: Luma) -> float:
    check(7, ir=ir, vi=vi, fused=fused)
    pairs = ((x.levels, fused.levels) for x in (ir, vi))
    return sum(float(structural_similarity(*p, win_size=7, data_range=1.0)) for p in pairs)


def _ag_all_pixels(ir: Luma, vi: Luma, fused: Luma) -> float:
    height, width = fused.levels.shape
    return METRICS["ag"].compute(ir, vi, fused) * ((height - 1) * (width - 1)) / (height * width)


def _vif_sum(ir: Luma, vi: Luma, fused: Luma) -> float:
    return 2 * METRICS["vif"].compute(ir, vi, fused)


_SSIM = "SSIM in a uniform 7 × 7 window with data range 1 on 0…255 images: values near 1"
_AG = "AG divided by H · W instead of (H − 1)(W − 1): 0.2 to 0.8 % lower"
_VIF = "VIF as the sum over both sources instead of the mean: twice as high"
_STRETCHED = (
    "each fused image stretched to its own minimum and maximum before it is measured, as several "
    "published test scripts save it"
)
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("ours", "as `fusionlib.metrics` defines them, on the saved 8-bit image"),
        Protocol("ssim_uniform", _SSIM, replaced={"ssim": _ssim_uniform}),
        Protocol("ag_all_pixels", _AG, replaced={"ag": _ag_all_pixels}),
        Protocol("vif_sum", _VIF, replaced={"vif": _vif_sum}),
        Protocol("stretched", _STRETCHED, prepare=stretch),
    )
}


def check_protocol(protocol: str) -> Protocol:
    """The protocol of that name, or a MetricError that lists them."""
    if protocol not in PROTOCOLS:
        raise MetricError(f"protocol {protocol!r} is not known; one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]


def measure_by(
    protocol: str, sources: Sources, fused: ArrayLike, metrics: Iterable[str] = tuple(METRICS)
) -> dict[str, Value]:
    """As `fusionlib.metrics.measure`, computed the way one of `PROTOCOLS` does."""
    chosen = check_protocol(protocol)
    return measure(sources, chosen.prepare(fused), metrics, chosen.replaced)
