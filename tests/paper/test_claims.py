"""The claims of the text: the paper's counts, ours, and when a verdict may be given."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_verdicts import means_of

from fusionlib import evaluation
from fusionlib.errors import DatasetError
from fusionlib.metrics import METRICS, PAPER
from paper import claims
from paper.ablation import NOT_TRAINED
from paper.claims import HOLDS, NO_EFFECT, NOT, PARTLY, UNTESTABLE
from paper.reported import read_reported

CLIP = "CLIP ViT-B-32 (open_clip)"
PARTS = ["better than without CII in most metrics", "better than without CFF in all metrics"]
BOTH, SEMANTICS = "better than without CII and CFF", "CLIP's semantics guide the fusion"


def pairwise(better, worse, ours, other, p=0.01):
    """Statistics in which ours is better and worse in so many metrics, else equal."""
    rows = []
    for number, metric in enumerate(PAPER):
        side = 1 if number < better else -1 if number < better + worse else 0
        side *= 1 if METRICS[metric].direction == "higher" else -1
        rows += [("MSRS", metric, ours, 1 + 0.1 * side, np.nan)]
        rows += [("MSRS", metric, other, 1, p if side else np.nan)]
    return pd.DataFrame(rows, columns=["dataset", "metric", "method", "mean", "p"])


def luma(brighter, datasets=("LLVIP", "M3FD", "MSRS", "RoadScene")):
    """Brightness and contrast of one image: ours 100, the rivals' as given."""
    rows = [(d, "a", m, metric, v) for d in datasets for metric in ("mean", "contrast")
            for m, v in ({"ours": 100} | brighter).items()]  # fmt: skip
    return pd.DataFrame(rows, columns=evaluation.COLUMNS)


@pytest.fixture
def frames():
    means = means_of()
    return {
        "statistics": means[means["dataset"] != "TNO"],
        "generalise_statistics": means[means["dataset"] == "TNO"],
        "brightness_values": luma({"DATFuse": 110, "LRRNet": 90, "average": 200}),
        "table4_statistics": pairwise(6, 0, "ours", "without_both"),
        "encoder_statistics": pairwise(6, 0, "real", "other_image"),
    }


def judged(frames, encoder=CLIP):
    return claims.judge_claims(frames, encoder).set_index("claim")


def test_counts_of_the_paper_are_those_of_its_text(frames):
    paper = judged(frames)["paper"]
    assert paper.to_list() == [
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


def test_our_counts_are_those_of_the_audit_and_two_rivals_leave_room_for_doubt(frames):
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
        ({"average": 1}, UNTESTABLE, "no rival"),
        ({"DATFuse": np.nan}, UNTESTABLE, "no rival"),
    ],
)
def test_brightness_and_contrast_are_those_of_the_paper_s_rivals(frames, rivals, verdict, why):
    frames["brightness_values"] = luma(rivals)
    rows = judged(frames).loc[["higher brightness", "higher contrast"]]
    assert set(rows["verdict"]) == {verdict} and rows["why"].str.contains(why).all()


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [(6, 0, HOLDS), (4, 2, HOLDS), (3, 1, PARTLY), (3, 3, NOT), (2, 4, NOT)],
)
def test_the_rule_for_most_metrics(frames, better, worse, verdict):
    frames["table4_statistics"] = pairwise(better, worse, "ours", "without_both")
    assert judged(frames).loc[BOTH, "verdict"] == verdict


def test_means_alone_show_no_effect_and_no_test_is_no_verdict(frames):
    frames["table4_statistics"] = pairwise(6, 0, "ours", "without_both", p=0.2)
    row = judged(frames).loc[BOTH]
    assert row["verdict"] == NO_EFFECT and row["here"] == "better in 6 of 6"
    frames["table4_statistics"]["p"] = np.nan
    assert judged(frames).loc[BOTH, "verdict"] == UNTESTABLE


@pytest.mark.parametrize(("better", "verdict"), [(6, HOLDS), (5, PARTLY), (2, NOT)])
def test_the_rule_for_all_metrics(frames, better, verdict):
    frames["table4_statistics"] = pairwise(better, 6 - better, "ours", "without_cff")
    assert judged(frames).loc[PARTS[1], "verdict"] == verdict


def test_variants_that_were_not_trained_are_no_failure(frames):
    rows = judged(frames).loc[PARTS]
    assert set(rows["verdict"]) == {NOT_TRAINED} and set(rows["here"]) == {"–"}


def test_another_encoder_is_never_taken_for_clip(frames):
    assert judged(frames).loc[SEMANTICS, "verdict"] == HOLDS
    row = judged(frames, "EfficientNet-Lite0 (ImageNet, not CLIP)").loc[SEMANTICS]
    assert row["verdict"] == UNTESTABLE and "not CLIP); with it, MSRS: holds" in row["why"]


def test_semantics_must_show_on_every_dataset(frames):
    alike = pairwise(0, 0, "real", "other_image").assign(dataset="RoadScene", p=0.5)
    frames["encoder_statistics"] = pd.concat([frames["encoder_statistics"], alike])
    row = judged(frames).loc[SEMANTICS]
    assert row["verdict"] == PARTLY and "RoadScene: no effect shown" in row["why"]
    assert "MSRS better in 6 of 6, RoadScene better in 0 of 6" in row["here"]


def test_drawn_scenes_test_no_claim(frames):
    for frame in frames.values():
        frame["dataset"] = "Synthetic"
    assert set(judged(frames)["verdict"]) == {UNTESTABLE}


def test_published_tables_of_other_weights_are_never_used(tmp_path):
    def run_with(weights):
        path = tmp_path / weights
        path.write_bytes(weights.encode())
        return SimpleNamespace(label="quick", weights=path, tables=lambda: tmp_path / "run")

    mine, other = run_with("mine"), run_with("other")
    published = tmp_path / "tables" / "quick"
    published.mkdir(parents=True)
    assert claims.find_tables(mine, tmp_path) == tmp_path / "run"
    record = {"steps": {"05": {"weights": {"sha256": hashlib.sha256(b"mine").hexdigest()}}}}
    (published / "provenance.json").write_text(json.dumps(record), encoding="utf-8")
    assert claims.find_tables(mine, tmp_path) == published
    assert claims.find_tables(other, tmp_path) == tmp_path / "run"


def test_missing_tables_name_the_notebooks(tmp_path, frames):
    frames["statistics"].to_csv(tmp_path / "statistics.csv", index=False)
    with pytest.raises(DatasetError, match=r"no .*generalise_statistics\.csv.*run 05_compare"):
        claims.read_frames(tmp_path)
