"""Values of the synthetic scenes, stored: a change of any of them is a change of definition.

Where that is meant, raise `fusionlib.metrics.VERSION` and write them anew with
``python tests/metrics/test_stored.py``.
"""

import csv
from pathlib import Path

import numpy as np
import pytest

from fusionlib import images, samples
from fusionlib.metrics import METRICS, Sources, measure

STORED = Path(__file__).with_name("stored.csv")
SCENES = ("hidden_person", "night_crossing", "smoke_road")


def triple(scene):
    """Sources of a scene and a simple fused image, on every second pixel."""
    drawn = samples.render(scene)
    ir, vi = drawn.ir[::2, ::2], images.luma8(drawn.vi[::2, ::2] / 255)
    return ir, vi, np.maximum(ir, (ir.astype(int) + vi) // 2).astype(np.uint8)


def rows():
    for scene in SCENES:
        ir, vi, fused = triple(scene)
        for name, (value, _) in measure(Sources(ir, vi), fused).items():
            yield scene, name, repr(float(value))


@pytest.mark.parametrize("scene", SCENES)
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
