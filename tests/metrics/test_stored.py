"""Values of the synthetic scenes, stored: a change of any of them is a change of definition.

Where that is meant, raise `fusionlib.metrics.VERSION` and write them anew with
``python tests/metrics/test_stored.py``.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusionlib import images
from fusionlib.datasets import SCENES
from fusionlib.metrics import METRICS, Sources, measure

STORED = Path(__file__).with_name("stored.csv")
NAMES = ("hidden_person", "night_crossing", "smoke_road")


def triple(scene):
    """Sources of a scene and a simple fused image, on every second pixel."""
    ir, vi = (
        np.asarray(Image.open(SCENES / kind / f"{scene}.png"))[::2, ::2] for kind in ("ir", "vi")
    )
    vi = images.luma8(vi / 255)
    return ir, vi, np.maximum(ir, (ir.astype(int) + vi) // 2).astype(np.uint8)


def rows():
    for scene in NAMES:
        ir, vi, fused = triple(scene)
        for name, (value, _) in measure(Sources(ir, vi), fused).items():
            yield scene, name, repr(float(value))


@pytest.mark.parametrize("scene", NAMES)
def test_the_stored_values_are_met(scene):
    with STORED.open(encoding="utf-8") as file:
        stored = {
            row["metric"]: row["value"] for row in csv.DictReader(file) if row["scene"] == scene
        }
    ir, vi, fused = triple(scene)
    found = measure(Sources(ir, vi), fused)
    assert stored.keys() == METRICS.keys()
    for name, value in stored.items():
        assert found[name].value == pytest.approx(float(value), rel=1e-6), name  # P1


if __name__ == "__main__":
    with STORED.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("scene", "metric", "value"), *rows()])
