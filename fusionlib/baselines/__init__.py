"""The methods of the comparison, one file each, all behind `Method`.

    from fusionlib.baselines import METHODS
    y = METHODS["DATFuse"].fuse(ir, vi)  # fused luma, (H, W)

The networks are written afresh from descriptions; their weights are the published ones, which
a user downloads (``python -m fusionlib data download --weights``) or has under
``$FUSIONLIB_WEIGHTS/<method>/<file>``; those of SAGE are part of this repository.
"""

import importlib
import pkgutil
from collections.abc import Iterator

from fusionlib.baselines.method import ArrayMethod, Method, NetworkMethod
from fusionlib.errors import WeightsError

FIRST = ("datfuse", "lrrnet", "seafusion", "ifcnn", "didfuse", "tardal", "densefuse", "sage")


def _methods() -> Iterator[Method]:
    """Of every file here its METHOD, or METHODS; those of `FIRST` before what users add."""
    found = {module.name for module in pkgutil.iter_modules(__path__)}
    for name in (*FIRST, "classical", *sorted(found - {*FIRST, "classical"})):
        module = importlib.import_module(f"{__name__}.{name}")
        yield from getattr(module, "METHODS", [])
        if hasattr(module, "METHOD"):
            yield module.METHOD


METHODS = {method.name: method for method in _methods()}


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
