"""What a training must share with a checkpoint to go on from it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fusionlib.errors import TrainingError

PACKAGE = Path(__file__).resolve().parent
# what decides the numbers of a training; an edit elsewhere does not stop a resume
DECISIVE = ("network.py", "losses.py", "crops.py", "clip.py", "recipe.py", "training.py")


def code_fingerprint() -> str:
    """sha256 of the sources that decide the numbers of a training."""
    return hashlib.sha256(b"".join((PACKAGE / name).read_bytes() for name in DECISIVE)).hexdigest()


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """What a training saved; nothing in the file is executed.

    Raises:
        TrainingError: damaged, or something else.
    """
    try:
        # accelerate calls the CPU of a process cpu:0; torch.load only knows cpu
        place = "cpu" if device.type == "cpu" else device
        state = torch.load(path, map_location=place, weights_only=True)
        return {**state, "identity": dict(state["identity"])}
    except Exception as error:  # torch.load raises almost anything on a damaged file
        raise TrainingError(f"{path}: not a checkpoint of this project ({error})") from error


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """In which settings a checkpoint differs from a training, in words; empty if in none."""
    return [
        f"{key}: {_difference(found.get(key), expected[key])}"
        for key in expected
        if found.get(key) != expected[key]
    ]


def _difference(found: Any, expected: Any) -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = [key for key in expected if found.get(key) != expected[key]]
        return ", ".join(f"{key} was {found.get(key)!r}, is {expected[key]!r}" for key in keys)
    if isinstance(found, list):
        return f"{len(found)} pairs, now {len(expected)}, or others"
    return f"{found!r}, now {expected!r}"
