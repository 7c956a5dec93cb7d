"""Values of published reference programs (Octave and Python), on images of their own."""

import csv
import os
from pathlib import Path

import pytest

from fusionlib.images import read_luma8
from fusionlib.metrics import METRICS, Sources, measure

WEIGHTS = os.environ.get("FUSIONLIB_WEIGHTS")
SHARED = Path(WEIGHTS).parent if WEIGHTS else Path(__file__).parents[3] / "shared"
ORACLE = SHARED / "metric_oracle"
NAMES = {"Qabf": "qabf", "Qcv": "qcv", "SSIM": "ssim", "AG": "ag", "SCD": "scd"}
NAMES |= {"vifp_mean": "vif", "viff_han2013": "viff"}


def expected():
    if not (ORACLE / "expected.csv").is_file():
        return {}
    triples = {}
    with (ORACLE / "expected.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = NAMES.get(row["metric"]) or NAMES[row["variant"]]
            triples.setdefault(row["triple_id"], {})[name] = float(row["value"])
    return triples


@pytest.mark.skipif(not expected(), reason="metric_oracle is not beside FUSIONLIB_WEIGHTS")
@pytest.mark.parametrize("name", list(expected()) or ["none"])
def test_reference_programs_give_the_same(name):
    ir, vi, fused = (
        read_luma8(ORACLE / "images" / f"{name}_{part}.png") for part in ("ir", "vi", "f")
    )
    values = measure(Sources(ir, vi), fused)
    assert expected()[name].keys() == METRICS.keys()
    for metric, value in expected()[name].items():
        # VIFF takes the source with the smaller gain, and flat places tie but for rounding
        rel = 1e-6 if metric == "viff" else 1e-8
        assert values[metric].value == pytest.approx(value, rel=rel), metric
