"""Verdicts on numbers, leads and claims, against counts of an audit made by another program."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fusionlib import evaluation
from fusionlib.errors import DatasetError
from fusionlib.metrics import METRICS, PAPER
from paper import claims
from paper.ablation import NOT_TRAINED
from paper.claims import AGREES, EXCEEDS, HOLDS, NO_EFFECT, NOT, PARTLY, SHORT, UNMEASURED
from paper.claims import UNTESTABLE as UNTESTED
from paper.reported import read_reported

CLIP = "CLIP ViT-B-32 (open_clip)"
BOTH, SEMANTICS = "better than without CII and CFF", "CLIP's semantics guide the fusion"
TITLES = {
    "without_cii": "better than without CII in most metrics",
    "without_cff": "better than without CFF in all metrics", "without_both": BOTH,
}  # fmt: skip
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


def frames_of(text=MEANS, factors=(0.99, 1.01)):
    """Values of images, these means times a factor each, and statistics with an interval of 1 %."""
    rows = [
        (dataset, metric, method, float(mean))
        for dataset, method, *numbers in map(str.split, text.strip().splitlines())
        for metric, mean in zip(PAPER, numbers, strict=True)
    ]
    means = pd.DataFrame(rows, columns=["dataset", "metric", "method", "mean"])
    images = [means.assign(name=str(i), value=means["mean"] * f) for i, f in enumerate(factors)]
    values = pd.concat(images, ignore_index=True)
    means = means.assign(low=means["mean"] * 0.99, high=means["mean"] * 1.01, n=len(factors))
    return {
        "compare_values": values[values["dataset"] != "TNO"],
        "generalise_values": values[values["dataset"] == "TNO"],
        "statistics": means[means["dataset"] != "TNO"],
        "generalise_statistics": means[means["dataset"] == "TNO"],
        "brightness_values": luma({"DATFuse": 110, "LRRNet": 90, "average": 200}),
        "table4_statistics": pairwise(6, 0, "ours", "without_both"),
        "encoder_statistics": pairwise(6, 0, "real", "other_image"),
    }


def pairwise(better, worse, ours, other, p=0.01):
    """Statistics in which ours is better and worse in so many metrics, else equal."""
    rows = []
    for number, metric in enumerate(PAPER):
        side = 1 if number < better else -1 if number < better + worse else 0
        side *= 1 if METRICS[metric].direction == "higher" else -1
        rows += [("MSRS", metric, ours, 1 + 0.1 * side, np.nan)]
        rows += [("MSRS", metric, other, 1, p if side else np.nan)]
    return pd.DataFrame(rows, columns=["dataset", "metric", "method", "mean", "p"])


def luma(brighter):
    """Brightness and contrast of one image of four datasets: ours 100, the rivals' as given."""
    datasets = ("LLVIP", "M3FD", "MSRS", "RoadScene")
    rows = [(d, "a", m, metric, v) for d in datasets for metric in ("mean", "contrast")
            for m, v in ({"ours": 100} | brighter).items()]  # fmt: skip
    return pd.DataFrame(rows, columns=evaluation.COLUMNS)


@pytest.fixture
def frames():
    return frames_of()


def judged(frames, encoder=CLIP):
    return claims.judge_claims(frames, encoder).set_index("claim")


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
    assert claims.judge(paper, (*here, 20), direction)[-2:] == (reaches, verdict)


def test_the_audit_counts_20_of_30_numbers_and_43_of_60_leads(frames):
    relative = claims.judge_relative(frames)
    counts = claims.overview(frames, relative)
    numbers, leads = (counts.loc[against] for against in counts.index.unique("against"))
    assert numbers.loc["ours", ["reaches", "cells"]].tolist() == [20, 30]
    assert numbers.loc["letter", ["not measured", "reaches", "cells"]].tolist() == [30, 0, 30]
    assert leads.loc["ours", ["reaches", "cells"]].tolist() == [43, 60]
    reached = relative[relative["reaches"] == "yes"]
    assert reached["rival"].value_counts().to_dict() == {"DATFuse": 19, "LRRNet": 24}
    by_metric = reached["metric"].value_counts().to_dict()
    assert by_metric == {"qabf": 9, "qcv": 3, "ssim": 8, "ag": 9, "vif": 7, "scd": 7}
    cell = relative.set_index(["rival", "dataset", "metric"]).loc[("LRRNet", "TNO", "qcv")]
    assert cell["paper"] == pytest.approx(3.1033, abs=1e-4)  # 834.27 / 268.83
    assert cell["here"] == pytest.approx(2.2093, abs=1e-4)


def test_the_interval_of_a_lead_is_paired_and_that_of_a_plain_bootstrap():
    exact = claims.judge_relative(frames_of(MEANS[-200:].partition("\n")[2], (0.2, 1.0, 1.8)))
    assert np.allclose(exact["low"], exact["high"])  # the same ratio in every image
    rng = np.random.default_rng(1)
    frames, n = frames_of("TNO ours 1 1 1 1 1 1\nTNO DATFuse 1 1 1 1 1 1", [1] * 40), 40
    values = frames["generalise_values"].assign(value=rng.uniform(0.5, 1.5, 12 * n))
    frames["generalise_values"] = values
    found = claims.judge_relative(frames).set_index("metric").loc["qcv"]
    ours, rival = (values.query("metric == 'qcv' and method == @m")["value"].to_numpy()
                   for m in ("ours", "DATFuse"))  # fmt: skip
    drawn = rng.integers(0, n, (20000, n))
    low, high = np.quantile(rival[drawn].mean(1) / ours[drawn].mean(1), [0.025, 0.975])
    assert found["here"] == pytest.approx(rival.mean() / ours.mean())
    assert (found["low"], found["high"]) == pytest.approx((low, high), rel=0.01)


def test_what_is_undefined_or_was_not_measured_is_not_judged():
    text = MEANS.replace("0.6990", "-0.1000").replace("0.4115", "nan").replace("TNO ", "Own ")
    frames = frames_of(text)
    relative = claims.judge_relative(frames)
    unknown = relative.query("rival == 'LRRNet' and verdict == @UNMEASURED")
    assert unknown[["dataset", "metric"]].to_numpy().tolist() == [["MSRS", "qabf"], ["MSRS", "scd"]]
    assert "TNO" not in set(relative["dataset"])
    numbers = claims.judge_numbers(frames, ("ours",))
    assert set(numbers.query("dataset == 'TNO'")["verdict"]) == {UNMEASURED}
    grid = claims.grid(numbers)
    assert grid.index.tolist() == ["LLVIP", "M3FD", "MSRS", "RoadScene", "TNO"]
    assert grid.loc["MSRS"].iloc[1] == "305.46 / 327.47 exceeds"


# ---- claims of the text


def test_counts_of_the_paper_are_those_of_its_text_and_ours_those_of_the_audit(frames):
    assert judged(frames)["paper"].to_list() == [
        "first in 21 of 24",  # "outperforms most other methods"
        "first in 8 of 8",  # "ranks first across the RoadScene, LLVIP, MSRS, and M3FD datasets"
        "first or second in 6 of 6",  # "optimal or near-optimal levels across all metrics"
        "no number",
        "no number",
        "better in 4 of 6",  # "outperforms the model lacking CII on most"
        "better in 6 of 6",  # "inferior … in the average values of all evaluation metrics"
        "better in 5 of 6",
        "no number",
    ]
    first, both, tno = (row for _, row in judged(frames).iloc[:3].iterrows())
    assert first["here"] == "first in 20 of 24" and both["here"] == "first in 7 of 8"
    assert "not in RoadScene Q_CV" in both["why"]
    assert tno["here"] == "first or second in 6 of 6"
    assert tno["verdict"] == PARTLY and "only against DATFuse, LRRNet" in tno["why"]


def test_a_claim_holds_against_all_rivals_and_not_where_ours_is_last(frames):
    reported = pd.concat(read_reported(t) for t in (1, 2, 3))
    long = reported.melt(["dataset", "method"], list(PAPER), "metric", "mean")
    frames["statistics"], frames["generalise_statistics"] = long, long.iloc[:0]
    as_printed = judged(frames)
    assert (as_printed["verdict"].iloc[:3] == HOLDS).all()
    assert (as_printed["here"] == as_printed["paper"]).iloc[:3].all()
    sign = long["metric"].map(lambda m: 1 if METRICS[m].direction == "higher" else -1)
    long.loc[long["method"] == "ours", "mean"] -= 1e4 * sign
    assert (judged(frames)["verdict"].iloc[:3] == NOT).all()


@pytest.mark.parametrize(
    ("rivals", "verdict", "why"),
    [
        ({"DATFuse": 110, "LRRNet": 90}, PARTLY, "DATFuse: on 0 of 4 datasets, LRRNet: on 4"),
        ({"DATFuse": 99, "LRRNet": 90}, HOLDS, "DATFuse: on 4 of 4"),
        ({"DATFuse": 101, "LRRNet": 102, "average": 1}, NOT, "LRRNet: on 0 of 4"),
        ({"average": 1}, UNTESTED, "no rival"),
        ({"DATFuse": np.nan}, UNTESTED, "no rival"),
    ],
)
def test_brightness_and_contrast_are_those_of_the_paper_s_rivals(frames, rivals, verdict, why):
    frames["brightness_values"] = luma(rivals)
    rows = judged(frames).loc[["higher brightness", "higher contrast"]]
    assert set(rows["verdict"]) == {verdict} and rows["why"].str.contains(why).all()


@pytest.mark.parametrize(
    ("part", "better", "worse", "p", "verdict"),
    [
        ("without_both", 6, 0, 0.01, HOLDS),  # of most metrics
        ("without_both", 4, 2, 0.01, HOLDS),
        ("without_both", 3, 1, 0.01, PARTLY),
        ("without_both", 3, 3, 0.01, NOT),
        ("without_both", 2, 4, 0.01, NOT),
        ("without_both", 6, 0, 0.20, NO_EFFECT),
        ("without_both", 6, 0, np.nan, UNTESTED),
        ("without_cff", 6, 0, 0.01, HOLDS),  # of all
        ("without_cff", 5, 1, 0.01, PARTLY),
        ("without_cff", 2, 4, 0.01, NOT),
    ],
)
def test_a_part_helps_by_means_and_tests_and_one_not_trained_is_no_failure(
    frames, part, better, worse, p, verdict
):
    frames["table4_statistics"] = pairwise(better, worse, "ours", part, p)
    rows = judged(frames).loc[list(TITLES.values())]
    found = rows.loc[TITLES[part]]
    assert found["verdict"] == verdict and found["here"] == f"better in {better} of 6"
    others = rows.drop(TITLES[part])
    assert set(others["verdict"]) == {NOT_TRAINED} and set(others["here"]) == {"–"}


def test_semantics_must_be_those_of_clip_and_show_on_every_dataset(frames):
    assert judged(frames).loc[SEMANTICS, "verdict"] == HOLDS
    row = judged(frames, "EfficientNet-Lite0 (ImageNet, not CLIP)").loc[SEMANTICS]
    assert row["verdict"] == UNTESTED and "not CLIP); with it, MSRS: holds" in row["why"]
    alike = pairwise(0, 0, "real", "other_image").assign(dataset="RoadScene", p=0.5)
    frames["encoder_statistics"] = pd.concat([frames["encoder_statistics"], alike])
    row = judged(frames).loc[SEMANTICS]
    assert row["verdict"] == PARTLY and "RoadScene: no effect shown" in row["why"]
    assert "MSRS better in 6 of 6, RoadScene better in 0 of 6" in row["here"]


def test_drawn_scenes_test_no_claim(frames):
    for frame in frames.values():
        frame["dataset"] = "Synthetic"
    assert set(judged(frames)["verdict"]) == {UNTESTED}


def test_published_tables_of_other_weights_are_never_used(tmp_path, monkeypatch):
    def run_with(weights):
        path = tmp_path / weights
        path.write_bytes(weights.encode())
        return SimpleNamespace(label="quick", weights=path, tables=lambda: tmp_path / "run")

    monkeypatch.setattr(claims, "REPOSITORY", tmp_path)
    mine, other = run_with("mine"), run_with("other")
    published = tmp_path / "tables" / "quick"
    published.mkdir(parents=True)
    assert claims.find_tables(mine) == tmp_path / "run"
    record = {"steps": {"05": {"weights": {"sha256": hashlib.sha256(b"mine").hexdigest()}}}}
    (published / "provenance.json").write_text(json.dumps(record), encoding="utf-8")
    assert claims.find_tables(mine) == published
    assert claims.find_tables(other) == tmp_path / "run"


def test_missing_tables_name_the_notebooks(tmp_path, frames):
    frames["statistics"].to_csv(tmp_path / "statistics.csv", index=False)
    with pytest.raises(DatasetError, match=r"no .*generalise_statistics\.csv.*run 05_compare"):
        claims.read_frames(tmp_path)
