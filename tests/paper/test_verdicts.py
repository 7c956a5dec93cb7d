"""Verdicts on numbers and leads, against counts of an audit made by another program."""

import numpy as np
import pandas as pd
import pytest

from fusionlib.metrics import PAPER
from paper import verdicts
from paper.verdicts import AGREES, EXCEEDS, SHORT, UNMEASURED

# means over the test pairs of an earlier run (commit d3476f3): Q_AB/F, Q_CV, SSIM, AG, VIF, SCD
MEANS = """
LLVIP     ours    0.7339 352.2061 1.4131 3.0360 0.5337 1.6980
LLVIP     DATFuse 0.4670 505.5731 1.3555 1.9233 0.4292 1.2557
LLVIP     LRRNet  0.4418 790.8372 1.3830 1.8779 0.3042 0.7535
M3FD      ours    0.7101 328.7586 1.4355 4.6279 0.4477 1.5095
M3FD      DATFuse 0.5427 421.5545 1.4218 3.4267 0.3555 1.1356
M3FD      LRRNet  0.5029 481.9054 1.4794 3.3084 0.2960 1.3908
MSRS      ours    0.7087 305.4584 1.4588 3.4566 0.5166 1.7649
MSRS      DATFuse 0.6224 364.6432 1.2666 3.2312 0.4659 1.4792
MSRS      LRRNet  0.4115 667.3876 1.2258 2.2682 0.2575 0.6990
RoadScene ours    0.6616 579.6729 1.3751 5.9799 0.3654 1.5511
RoadScene DATFuse 0.4654 498.6229 1.3895 3.8468 0.2927 1.1763
RoadScene LRRNet  0.3450 638.6925 1.1861 4.5663 0.2444 1.6395
TNO       ours    0.6248 308.1692 1.4248 4.4957 0.3792 1.6996
TNO       DATFuse 0.5108 434.6066 1.4121 3.5676 0.3545 1.3423
TNO       LRRNet  0.3544 680.8509 1.2856 4.0784 0.2919 1.5359
"""


def means_of(text=MEANS):
    """Columns dataset, metric, method, mean."""
    rows = [
        (dataset, metric, method, float(mean))
        for dataset, method, *numbers in map(str.split, text.strip().splitlines())
        for metric, mean in zip(PAPER, numbers, strict=True)
    ]
    return pd.DataFrame(rows, columns=["dataset", "metric", "method", "mean"])


def frames_of(text=MEANS, factors=(0.99, 1.01)):
    """Values of images, these means times a factor each, and statistics with an interval of 1 %."""
    means = means_of(text)
    images = [means.assign(name=str(i), value=means["mean"] * f) for i, f in enumerate(factors)]
    values = pd.concat(images, ignore_index=True)
    means = means.assign(low=means["mean"] * 0.99, high=means["mean"] * 1.01, n=len(factors))
    return {
        "compare_values": values[values["dataset"] != "TNO"],
        "generalise_values": values[values["dataset"] == "TNO"],
        "statistics": means[means["dataset"] != "TNO"],
        "generalise_statistics": means[means["dataset"] == "TNO"],
    }


@pytest.mark.parametrize(
    ("paper", "here", "direction", "reaches", "verdict"),
    [
        (0.5, (0.6, 0.55, 0.65), "higher", "yes", EXCEEDS),
        (0.5, (0.6, 0.45, 0.75), "higher", "yes", AGREES),
        (0.5, (0.4, 0.25, 0.55), "higher", "no", AGREES),
        (0.5, (0.4, 0.35, 0.45), "higher", "no", SHORT),
        (500, (400, 350, 450), "lower", "yes", EXCEEDS),
        (500, (600, 550, 650), "lower", "no", SHORT),
        (0.5, (0.5, 0.5, 0.5), "lower", "yes", AGREES),
        (0.5, (0.6, np.nan, np.nan), "higher", "yes", UNMEASURED),  # one image: no interval
    ],
)
def test_the_rule(paper, here, direction, reaches, verdict):
    assert verdicts.judge(paper, (*here, 20), direction)[-2:] == (reaches, verdict)


def test_the_audit_counts_20_of_30_numbers_and_43_of_60_leads():
    frames = frames_of()
    numbers = verdicts.count_verdicts(verdicts.judge_numbers(frames), ["method"])
    assert numbers.loc["ours", ["reaches", "cells"]].tolist() == [20, 30]
    assert numbers.loc["letter", ["not measured", "reaches", "cells"]].tolist() == [30, 0, 30]
    relative = verdicts.judge_relative(frames)
    both = verdicts.overview(frames, relative).loc["the paper's lead over DATFuse, LRRNet"]
    assert both.loc["ours", ["reaches", "cells"]].tolist() == [43, 60]
    leads = verdicts.count_verdicts(relative, ["rival"])
    assert leads["reaches"].to_dict() == {"DATFuse": 19, "LRRNet": 24}
    by_metric = verdicts.count_verdicts(relative, ["metric"])["reaches"].to_dict()
    assert by_metric == {"qabf": 9, "qcv": 3, "ssim": 8, "ag": 9, "vif": 7, "scd": 7}
    cell = relative.set_index(["rival", "dataset", "metric"]).loc[("LRRNet", "TNO", "qcv")]
    assert cell["paper"] == pytest.approx(3.1033, abs=1e-4)  # 834.27 / 268.83
    assert cell["here"] == pytest.approx(2.2093, abs=1e-4)


def test_the_interval_of_a_lead_is_paired_and_that_of_a_plain_bootstrap():
    exact = verdicts.judge_relative(frames_of(MEANS[-200:].partition("\n")[2], (0.2, 1.0, 1.8)))
    assert np.allclose(exact["low"], exact["high"])  # the same ratio in every image
    rng = np.random.default_rng(1)
    frames, n = frames_of("TNO ours 1 1 1 1 1 1\nTNO DATFuse 1 1 1 1 1 1", [1] * 40), 40
    values = frames["generalise_values"].assign(value=rng.uniform(0.5, 1.5, 12 * n))
    frames["generalise_values"] = values
    found = verdicts.judge_relative(frames).set_index("metric").loc["qcv"]
    ours, rival = (values.query("metric == 'qcv' and method == @m")["value"].to_numpy()
                   for m in ("ours", "DATFuse"))  # fmt: skip
    drawn = rng.integers(0, n, (20000, n))
    low, high = np.quantile(rival[drawn].mean(1) / ours[drawn].mean(1), [0.025, 0.975])
    assert found["here"] == pytest.approx(rival.mean() / ours.mean())
    assert (found["low"], found["high"]) == pytest.approx((low, high), rel=0.01)


def test_an_undefined_lead_is_not_judged():
    frames = frames_of(MEANS.replace("0.6990", "-0.1000").replace("0.3544", "nan"))
    relative = verdicts.judge_relative(frames).query("rival == 'LRRNet'")
    unknown = relative[relative["verdict"] == UNMEASURED]
    assert unknown[["dataset", "metric"]].to_numpy().tolist() == [["MSRS", "scd"], ["TNO", "qabf"]]


def test_what_was_not_measured_has_no_lead():
    frames = frames_of(MEANS.replace("TNO ", "Own "))
    numbers = verdicts.judge_numbers(frames, ("ours",))
    assert set(numbers.query("dataset == 'TNO'")["verdict"]) == {UNMEASURED}
    assert "TNO" not in set(verdicts.judge_relative(frames)["dataset"])
    grid = verdicts.grid(numbers)
    assert grid.index.tolist() == ["LLVIP", "M3FD", "MSRS", "RoadScene", "TNO"]
    assert grid.loc["MSRS"].iloc[1] == "305.46 / 327.47 exceeds"
