"""The methods of the comparison, one file each, all behind `Method`.

    from fusionlib.baselines import METHODS
    y = METHODS["DATFuse"].fuse(ir, vi)  # fused luma, (H, W)

The networks are written afresh from descriptions; their weights are the published ones, which
a user downloads (``python -m fusionlib data download --weights``) or has under
``$FUSIONLIB_WEIGHTS/<method>/<file>``; those of SAGE are part of this repository.
"""

import importlib
import pkgutil

from fusionlib.baselines import (
    classical,
    datfuse,
    densefuse,
    didfuse,
    ifcnn,
    lrrnet,
    sage,
    seafusion,
    tardal,
)
from fusionlib.baselines.method import ArrayMethod, Method, NetworkMethod
from fusionlib.errors import WeightsError

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        datfuse.METHOD,
        lrrnet.METHOD,
        seafusion.METHOD,
        ifcnn.METHOD,
        didfuse.METHOD,
        tardal.METHOD,
        densefuse.METHOD,
        sage.METHOD,
        *classical.METHODS,
    )
}


for _found in pkgutil.iter_modules(__path__):  # files that users add: METHOD, each its own
    _method = getattr(importlib.import_module(f"{__name__}.{_found.name}"), "METHOD", None)
    if _method is not None:
        METHODS.setdefault(_method.name, _method)


def find_method(name: str) -> Method:
    """The entry of a method in `METHODS`.

    Raises:
        WeightsError: no such method.
    """
    if name not in METHODS:
        raise WeightsError(f"no method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]


def missing() -> dict[str, str]:
    """Methods that cannot run on this machine now, and why: name → reason and what to do."""
    reasons = {name: method.missing() for name, method in METHODS.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


__all__ = ["METHODS", "ArrayMethod", "Method", "NetworkMethod", "find_method", "missing"]
