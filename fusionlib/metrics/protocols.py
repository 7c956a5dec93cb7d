"""Why another paper prints another number: what widely used evaluators compute instead.

`evaluate(…, protocol="vif_sum")` and ``python -m fusionlib evaluate --protocol vif_sum`` reproduce
one of these deviations at a time; the default, ``ours``, is what `fusionlib.metrics` defines.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from skimage.metrics import structural_similarity

from fusionlib.errors import MetricError
from fusionlib.metrics import METRICS, Comparison, Sources, Value, measure

Array = np.ndarray


@dataclass(frozen=True)
class Protocol:
    """A way to compute the metrics that differs from ours in one thing.

    Attributes:
        name: for `measure_by`.
        description: what is done, and what it does to the values.
        prepare: what happens to the fused 8-bit image first.
        replaced: metric → what is computed instead, of a comparison.
    """

    name: str
    description: str
    prepare: Callable[[Array], Array] = lambda fused: fused
    replaced: Mapping[str, Callable[[Comparison], float]] = field(default_factory=dict)


def stretch(fused: ArrayLike) -> Array:
    """An 8-bit image stretched to 0…255 by its own minimum and maximum, rounded."""
    fused = np.asarray(fused)
    low, high = float(fused.min()), float(fused.max())
    if low == high:
        return fused
    return np.rint((fused.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)


def _ssim_uniform(pair: Comparison) -> float:
    pair.require(7, "SSIM in a 7 × 7 window")
    return sum(
        float(structural_similarity(x, pair.fused, win_size=7, data_range=1.0))
        for x in pair.sources.images
    )


def _ag_all_pixels(pair: Comparison) -> float:
    height, width = pair.fused.shape
    return METRICS["ag"].compute(pair) * ((height - 1) * (width - 1)) / (height * width)


def _vif_sum(pair: Comparison) -> float:
    return 2 * METRICS["vif"].compute(pair)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("ours", "as `fusionlib.metrics` defines them, on the saved 8-bit image"),
        Protocol(
            "ssim_uniform",
            "SSIM in a uniform 7 × 7 window with data range 1 on 0…255 images: values near 1",
            replaced={"ssim": _ssim_uniform},
        ),
        Protocol(
            "ag_all_pixels",
            "AG divided by H · W instead of (H − 1)(W − 1): 0.2 to 0.8 % lower",
            replaced={"ag": _ag_all_pixels},
        ),
        Protocol(
            "vif_sum",
            "VIF as the sum over both sources instead of the mean: twice as high",
            replaced={"vif": _vif_sum},
        ),
        Protocol(
            "stretched",
            "each fused image stretched to its own minimum and maximum before it is measured, as "
            "several published test scripts save it",
            prepare=stretch,
        ),
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
    """As `fusionlib.metrics.measure`, computed the way a protocol does.

    Args:
        protocol: a key of `PROTOCOLS`.
        sources: infrared and visible luma.
        fused: fused luma, (H, W), grey levels 0…255.
        metrics: keys of `fusionlib.metrics.METRICS`.

    Raises:
        MetricError: unknown protocol or metric, or images that do not fit together.
    """
    chosen = check_protocol(protocol)
    return measure(sources, chosen.prepare(np.asarray(fused)), metrics, chosen.replaced)
