"""The paper's six metrics, and VIFF: what each is, and how to compute one or all of them.

    from fusionlib.metrics import METRICS, measure, qabf

    qabf(ir, vi, fused)             # one metric: grey levels 0…255, (H, W), in; a float out
    measure(Sources(ir, vi), fused)  # all of them, sharing what they have in common

`METRICS` is the one place that knows names, symbols and directions; tables, arrows and the marks
of the best come from it.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

from numpy.typing import ArrayLike

from fusionlib.errors import MetricError, TooSmallError, UndefinedError
from fusionlib.metrics import ag as _ag
from fusionlib.metrics import qabf as _qabf
from fusionlib.metrics import qcv as _qcv
from fusionlib.metrics import scd as _scd
from fusionlib.metrics import ssim as _ssim
from fusionlib.metrics import vif as _vif
from fusionlib.metrics.comparison import Comparison, Sources

__all__ = [
    "METRICS",
    "PAPER",
    "VERSION",
    "Comparison",
    "Metric",
    "Sources",
    "Value",
    "ag",
    "measure",
    "qabf",
    "qcv",
    "scd",
    "ssim",
    "vif",
    "viff",
]


@dataclass(frozen=True)
class Metric:
    """What a reader of a table needs to know about a column.

    Attributes:
        name: in code and CSV.
        symbol: in text.
        latex: in LaTeX.
        direction: which values are better.
        range: least and greatest possible value.
        source: where it was published.
        compute: of a comparison; raises UndefinedError or TooSmallError where it has no value.
        in_paper: whether it is one of the paper's six.
    """

    name: str
    symbol: str
    latex: str
    direction: Literal["higher", "lower"]
    range: tuple[float, float]
    source: str
    compute: Callable[[Comparison], float]
    in_paper: bool = True

    @property
    def arrow(self) -> str:
        """↑ where higher is better, ↓ where lower is."""
        return "↑" if self.direction == "higher" else "↓"

    @property
    def title(self) -> str:
        """Symbol and arrow, for headings."""
        return f"{self.symbol} {self.arrow}"


METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "qabf",
            "Q_AB/F",
            r"Q_{AB/F}",
            "higher",
            (0, 1),
            "Xydeas, Petrovic, Electronics Letters 36(4), 2000",
            _qabf.from_comparison,
        ),
        Metric(
            "qcv",
            "Q_CV",
            r"Q_{CV}",
            "lower",
            (0, math.inf),
            "Chen, Varshney, Information Fusion 8(2), 2007",
            _qcv.from_comparison,
        ),
        Metric(
            "ssim",
            "SSIM",
            r"Q_{SSIM}",
            "higher",
            (-2, 2),
            "Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 13(4), 2004",
            _ssim.from_comparison,
        ),
        Metric(
            "ag",
            "AG",
            r"Q_{AG}",
            "higher",
            (0, math.inf),
            "Cui, Feng, Xu, Li, Chen, Optics Communications 341, 2015",
            _ag.from_comparison,
        ),
        Metric(
            "vif",
            "VIF",
            r"Q_{VIF}",
            "higher",
            (0, math.inf),
            "Sheikh, Bovik, IEEE TIP 15(2), 2006",
            _vif.vif_from_comparison,
        ),
        Metric(
            "scd",
            "SCD",
            r"Q_{SCD}",
            "higher",
            (-2, 2),
            "Aslantas, Bendes, AEU 69(12), 2015",
            _scd.from_comparison,
        ),
        Metric(
            "viff",
            "VIFF",
            r"Q_{VIFF}",
            "higher",
            (0, math.inf),
            "Han, Cai, Cao, Xu, Information Fusion 14(2), 2013",
            _vif.viff_from_comparison,
            in_paper=False,
        ),
    )
}
VERSION = 1  # raise it when a value changes: results measured before are then measured again
PAPER = tuple(name for name, metric in METRICS.items() if metric.in_paper)

# after the imports of the modules of these names, which they replace in this namespace
qabf, qcv, ssim = _qabf.qabf, _qcv.qcv, _ssim.ssim
ag, vif, viff, scd = _ag.ag, _vif.vif, _vif.viff, _scd.scd


class Value(NamedTuple):
    """A metric's value; NaN with the reason where there is none."""

    value: float
    reason: str


def measure(
    sources: Sources,
    fused: ArrayLike,
    metrics: Iterable[str] = tuple(METRICS),
    replaced: Mapping[str, Callable[[Comparison], float]] = MappingProxyType({}),
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
    pair, values = Comparison(sources, fused), {}
    for name in metrics:
        if name not in METRICS:
            raise MetricError(f"metric {name!r} is not known; one of {', '.join(METRICS)}")
        try:
            compute = replaced.get(name, METRICS[name].compute)
            values[name] = Value(compute(pair), "")
        except (TooSmallError, UndefinedError) as error:
            values[name] = Value(math.nan, str(error))
    return values
