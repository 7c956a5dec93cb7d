"""Values of published reference programs (Octave and Python), on images of their own."""

import csv
import os
from pathlib import Path

import pytest

from fusionlib.images import read_luma8
from fusionlib.metrics import METRICS, Sources, measure

ORACLE = Path(os.environ.get("FUSIONLIB_WEIGHTS", "none")).parent / "metric_oracle"
LISTED = ORACLE / "expected.csv"


def expected():
    triples = {}
    with LISTED.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = "viff" if row["variant"].startswith("viff") else row["metric"].lower()
            triples.setdefault(row["triple_id"], {})[name] = float(row["value"])
    return triples


@pytest.mark.skipif(not LISTED.is_file(), reason="metric_oracle is not beside FUSIONLIB_WEIGHTS")
def test_reference_programs_give_the_same():
    for triple, listed in expected().items():
        parts = (ORACLE / "images" / f"{triple}_{part}.png" for part in ("ir", "vi", "f"))
        ir, vi, fused = map(read_luma8, parts)
        values = measure(Sources(ir, vi), fused)
        assert listed.keys() == METRICS.keys()
        for metric, value in listed.items():
            # VIFF takes the source with the smaller gain, and flat places tie but for rounding
            rel = 1e-6 if metric == "viff" else 1e-9
            assert values[metric].value == pytest.approx(value, rel=rel), (triple, metric)
