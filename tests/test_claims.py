import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fusionlib import claims
from fusionlib.baselines.reported import read_reported
from fusionlib.claims import NOT, PARTLY, REPRODUCED, UNTESTABLE
from fusionlib.errors import DatasetError
from fusionlib.metrics import METRICS, PAPER

COLUMNS = ["dataset", "metric", "method", "n", "mean", "low", "high", "rank", "p", "note"]


def rows(dataset, values, n=20, p=0.01):
    """Statistics in which each method has the paper's numbers times its factor."""
    paper = pd.concat(read_reported(t) for t in (1, 2, 3)).query("method == 'ours'")
    line = paper.set_index("dataset").loc[dataset if dataset in set(paper["dataset"]) else "MSRS"]
    return [
        (dataset, m, method, n, line[m] * f, line[m] * f * 0.99, line[m] * f * 1.01, 1, p, "")
        for m in PAPER
        for method, f in values.items()
    ]


def frame(*several):
    return pd.DataFrame([row for part in several for row in part], columns=COLUMNS)


@pytest.fixture
def statistics():
    same = {"ours": 1.0, "DATFuse": 0.8, "LRRNet": 0.7}
    ablated = {"full": 1.0, "without_cii": 0.9, "without_cff": 0.9, "without_both": 0.9}
    return {
        "statistics": frame(*(rows(d, same) for d in ("LLVIP", "MSRS", "RoadScene", "M3FD"))),
        "generalise_statistics": frame(rows("TNO", same)),
        "table4_statistics": frame(rows("MSRS", ablated)),
        "encoder_statistics": frame(rows("MSRS", {"real": 1.0, "other_image": 0.9})),
    }


def verdicts(statistics, encoder="CLIP ViT-B-32 (open_clip)"):
    return claims.judge_claims(statistics, encoder).set_index("claim")["verdict"]


@pytest.mark.parametrize(
    ("mean", "low", "high", "verdict"),
    [
        (0.60, 0.59, 0.61, REPRODUCED),  # better than 0.5911
        (0.58, 0.55, 0.60, REPRODUCED),  # worse, but the interval holds it
        (0.55, 0.54, 0.56, PARTLY),  # 7 % worse, and the interval does not hold it
        (0.50, 0.30, 0.70, PARTLY),  # 15 % worse; an interval as wide as that holds anything
        (0.50, 0.49, 0.51, NOT),  # 15 % worse
        (np.nan, np.nan, np.nan, UNTESTABLE),
    ],
)
def test_the_rule_for_a_number(statistics, mean, low, high, verdict):
    table = statistics["statistics"]
    chosen = (table[["dataset", "metric", "method"]] == ["RoadScene", "qabf", "ours"]).all(axis=1)
    table.loc[chosen, ["mean", "low", "high"]] = mean, low, high
    numbers = claims.judge_numbers(statistics).set_index(["dataset", "metric"])
    assert numbers.loc[("RoadScene", "qabf"), "verdict"] == verdict
    assert len(numbers) == 5 * len(PAPER)


def test_lower_is_better_for_qcv(statistics):
    table = statistics["statistics"]
    table.loc[table["metric"] == "qcv", ["mean", "low", "high"]] *= 0.5
    numbers = claims.judge_numbers(statistics).query("metric == 'qcv' and dataset != 'TNO'")
    assert set(numbers["verdict"]) == {REPRODUCED} and numbers["why"].str.startswith("better").all()


def test_claims_about_tables_and_parts(statistics):
    judged = verdicts(statistics)
    assert len(judged) == 11
    assert judged["quality of the fused images of TNO"] == REPRODUCED
    # methods of the paper that cannot run here leave room for doubt; of Q_CV ours has the highest
    assert judged["ahead of the methods it is compared with"] == PARTLY
    assert judged["CII helps"] == judged["CFF helps"] == REPRODUCED
    assert judged["CLIP's semantics guide the fusion"] == REPRODUCED


def test_another_encoder_is_never_taken_for_clip(statistics):
    title = "EfficientNet-Lite0 (ImageNet, not CLIP)"
    table = claims.judge_claims(statistics, title).set_index("claim")
    row = table.loc["CLIP's semantics guide the fusion"]
    assert row["verdict"] == UNTESTABLE and "not CLIP" in row["why"] and title in row["ours"]


def test_synthetic_scenes_test_no_number_of_the_paper(statistics):
    for name in statistics:
        statistics[name]["dataset"] = "Synthetic"
    assert set(verdicts(statistics)) == {UNTESTABLE}


@pytest.mark.parametrize(
    ("better", "surely", "surely_worse", "verdict"),
    [(5, 3, 0, REPRODUCED), (1, 1, 0, PARTLY), (5, 0, 0, PARTLY), (4, 1, 1, PARTLY),
     (3, 1, 1, NOT), (3, 0, 0, NOT), (4, 0, 1, NOT)],
)  # fmt: skip
def test_the_rule_for_a_part(better, surely, surely_worse, verdict):
    row = {"better": better, "worse": 6 - better, "untested": 0}
    row |= {"better, p < 0.05": surely, "worse, p < 0.05": surely_worse}
    assert claims._verdict_of(pd.Series(row))[0] == verdict


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


def test_too_few_images_and_no_difference_are_told_apart(statistics):
    table = statistics["table4_statistics"]
    table["p"] = np.nan
    assert verdicts(statistics)["CII helps"] == UNTESTABLE
    table["p"] = 0.5
    assert verdicts(statistics)["CII helps"] == PARTLY  # better in most means, though not surely
    worse = table["metric"].map(lambda m: METRICS[m].direction == "higher")
    table.loc[worse & (table["method"] == "full"), "mean"] *= 0.5
    assert verdicts(statistics)["CII helps"] == NOT


def test_missing_tables_name_the_notebooks(tmp_path, statistics):
    statistics["statistics"].to_csv(tmp_path / "statistics.csv", index=False)
    with pytest.raises(DatasetError, match=r"no generalise_statistics\.csv.*run 05_compare"):
        claims.read_statistics(tmp_path)
