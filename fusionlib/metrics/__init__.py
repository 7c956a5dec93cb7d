"""The paper's six metrics, and VIFF: what each is, and how to compute one or all of them.

    from fusionlib.metrics import METRICS, Sources, measure, qabf

    qabf(ir, vi, fused)              # one metric: grey levels 0…255, (H, W), in; a float out
    measure(Sources(ir, vi), fused)  # all of them, sharing what they have in common

`METRICS` is the one place that knows symbols, directions and sources; arrows and the marks of the
best come from it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import unwrap
from math import inf, nan
from typing import Literal, NamedTuple

from numpy.typing import ArrayLike

from fusionlib.errors import MetricError, TooSmallError, UndefinedError
from fusionlib.metrics.ag import ag
from fusionlib.metrics.luma import Luma, Sources, check
from fusionlib.metrics.qabf import qabf
from fusionlib.metrics.qcv import qcv
from fusionlib.metrics.scd import scd
from fusionlib.metrics.ssim import ssim
from fusionlib.metrics.vif import vif, viff

VERSION = 1  # raise it when a value changes: results measured before are then measured again
__all__ = ["METRICS", "PAPER", "VERSION", "Metric", "Sources", "Value", "find_metric", "measure"]
__all__ += ["ag", "qabf", "qcv", "scd", "ssim", "vif", "viff"]

Compute = Callable[[Luma, Luma, Luma], float]  # raises UndefinedError, TooSmallError


@dataclass(frozen=True)
class Metric:
    """What a reader of a table needs to know about a column."""

    name: str  # in code and CSV
    symbol: str  # in text
    direction: Literal["higher", "lower"]  # which is better
    range: tuple[float, float]
    source: str  # where it was published, and what the paper cites if that is something else
    compute: Compute

    @property
    def latex(self) -> str:
        """The symbol in LaTeX's mathematics."""
        return "Q_{" + self.symbol.removeprefix("Q_") + "}"

    @property
    def title(self) -> str:
        """Symbol and, for the direction that is better, ↑ or ↓."""
        return f"{self.symbol} {'↑' if self.direction == 'higher' else '↓'}"


_QABF = "Xydeas, Petrovic, Electronics Letters 36(4), 2000"
_QCV = "Chen, Varshney, Information Fusion 8(2), 2007; cited with Liu Y. et al., 2024"
_SSIM = "Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 13(4), 2004"
_AG = "Cui et al., Optics Communications 341, 2015; cited: Zhang X. et al., 2020"
_VIF = "Sheikh, Bovik, IEEE TIP 15(2), 2006; cited: Ma et al., 2019a"
_SCD = "Aslantas, Bendes, AEU 69(12), 2015"
_VIFF = "Han, Cai, Cao, Xu, Information Fusion 14(2), 2013"
METRICS = {
    name: Metric(name, *column)
    for name, column in {  # `unwrap`: what raises where the function gives NaN
        "qabf": ("Q_AB/F", "higher", (0, 1), _QABF, unwrap(qabf)),
        "qcv": ("Q_CV", "lower", (0, inf), _QCV, unwrap(qcv)),
        "ssim": ("Q_SSIM", "higher", (-2, 2), _SSIM, ssim),
        "ag": ("Q_AG", "higher", (0, inf), _AG, lambda ir, vi, fused: ag(fused)),
        "vif": ("Q_VIF", "higher", (0, inf), _VIF, unwrap(vif)),
        "scd": ("Q_SCD", "higher", (-2, 2), _SCD, unwrap(scd)),
        "viff": ("VIFF", "higher", (0, inf), _VIFF, viff),
    }.items()
}
PAPER = tuple(name for name in METRICS if name != "viff")


def find_metric(name: str) -> Metric:
    """The entry of `METRICS`, or a MetricError that lists them."""
    if name not in METRICS:
        raise MetricError(f"metric {name!r} is not known; one of {', '.join(METRICS)}")
    return METRICS[name]


class Value(NamedTuple):
    """A metric's value; NaN with the reason where there is none."""

    value: float
    reason: str


def measure(
    sources: Sources,
    fused: ArrayLike,
    metrics: Iterable[str] = tuple(METRICS),
    replaced: Mapping[str, Compute] | None = None,
) -> dict[str, Value]:
    """Several metrics of one fused image, each thing they share computed once.

    Args:
        sources: infrared and visible luma; keep the object for further fused images.
        fused: fused luma, (H, W), grey levels 0…255.
        metrics: keys of `METRICS`.
        replaced: metric → what to compute instead, see `fusionlib.metrics.protocols`.

    Returns:
        metric → value and an empty reason, or NaN and why it is undefined.

    Raises:
        MetricError: unknown metric, or images that do not fit together.
    """
    images, values = check(ir=sources.ir, vi=sources.vi, fused=fused), {}
    for name in metrics:
        compute = (replaced or {}).get(name, find_metric(name).compute)
        try:
            values[name] = Value(float(compute(*images)), "")
        except (TooSmallError, UndefinedError) as error:
            values[name] = Value(nan, str(error))
    return values
