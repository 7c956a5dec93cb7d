"""The paper's claims, one by one: its number, ours, a verdict by a rule, and the reason.

Verdicts come from the tables of a run alone, so that anyone can compute them again.
"""

import json
from pathlib import Path

import pandas as pd

from fusionlib import ablation
from fusionlib.baselines.reported import ELSEWHERE, OURS, read_reported
from fusionlib.datasets import REPOSITORY
from fusionlib.errors import DatasetError
from fusionlib.files import file_sha256
from fusionlib.metrics import METRICS, PAPER
from fusionlib.run import Run
from fusionlib.statistics import LEVEL

VERDICTS = REPRODUCED, PARTLY, NOT, UNTESTABLE = (
    "reproduced",
    "partly",
    "not reproduced",
    "not testable here",
)
CLOSE = 0.1  # share by which a number may be worse than reported
SURE, HALF = 0.75, 0.5  # shares of cells, for claims about many
NUMBERS = ["dataset", "table", "metric", "paper", "ours", "low", "high", "n", "verdict", "why"]
CLAIMS = ["claim", "where", "paper", "ours", "verdict", "why"]
FILES = ("statistics", "generalise_statistics", "table4_statistics", "encoder_statistics")
SOURCES = {1: "statistics", 2: "statistics", 3: "generalise_statistics"}
PARTS = {
    "without_cii": "CII helps",
    "without_cff": "CFF helps",
    "without_both": "CII and CFF together help",
}

Row = tuple[str, str, str, str, str, str]
Statistics = dict[str, pd.DataFrame]


def find_tables(run: Run, repository: Path = REPOSITORY) -> Path:
    """Folder of the tables of a run; of the published ones if it has none and they fit.

    Published tables fit if their records name the weights of this run: others were made with
    other weights, and perhaps another encoder.
    """
    published, here = repository / "tables" / run.label, run.tables()
    if all((here / f"{name}.csv").is_file() for name in FILES):
        return here
    try:
        record = json.loads((published / "provenance.json").read_text(encoding="utf-8"))
        used = {step["weights"]["sha256"] for step in record["steps"].values()}
    except (OSError, ValueError, KeyError):
        return here
    return published if used == {file_sha256(run.weights)} else here


def read_statistics(folder: Path) -> Statistics:
    """The statistics that 05 to 07 wrote, by name.

    Raises:
        DatasetError: some are missing; names the notebooks that write them.
    """
    missing = [name for name in FILES if not (folder / f"{name}.csv").is_file()]
    if missing:
        raise DatasetError(
            f"{folder}: no {', '.join(f'{name}.csv' for name in missing)}; run 05_compare, "
            f"06_generalise and 07_ablation first (python -m fusionlib paper)"
        )
    return {name: pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
            for name in FILES}  # fmt: skip


def judge_numbers(statistics: Statistics) -> pd.DataFrame:
    """Every number the paper reports of its own method, beside ours.

    Returns:
        Columns `NUMBERS`. Reproduced: as good or better, or worse by at most 10 % with the
        reported value in our 95 % interval; partly: only one of these; not reproduced: neither.
    """
    rows = []
    for table, source in SOURCES.items():
        reported = read_reported(table)
        found = statistics[source].set_index(["dataset", "metric", "method"])
        for line in reported[reported["method"] == OURS].to_dict("records"):
            for metric in PAPER:
                key = (line["dataset"], metric, OURS)
                ours = found.loc[key] if key in found.index else None
                rows.append((line["dataset"], table, *_judge_number(metric, line[metric], ours)))
    return pd.DataFrame(rows, columns=NUMBERS)


def _judge_number(metric: str, paper: float, ours: pd.Series | None) -> tuple:
    nothing = (float("nan"),) * 3
    if pd.isna(paper):
        return metric, paper, *nothing, 0, UNTESTABLE, "the paper's number is not at hand"
    if ours is None or pd.isna(ours["mean"]):
        why = "the dataset was not measured" if ours is None else "no mean: a value is undefined"
        return metric, paper, *nothing, 0, UNTESTABLE, why
    mean, low, high, n = (ours[name] for name in ("mean", "low", "high", "n"))
    sign = 1 if METRICS[metric].direction == "higher" else -1
    worse = sign * (paper - mean) / abs(paper)
    if worse <= 0:
        verdict, why = REPRODUCED, f"better by {-worse:.1%}"
    else:  # a wide interval, of few images, holds much: it is not enough alone
        fits, is_close = bool(low <= paper <= high), bool(worse <= CLOSE)
        verdict = REPRODUCED if fits and is_close else PARTLY if fits or is_close else NOT
        why = f"worse by {worse:.1%}, {'inside' if fits else 'outside'} the interval"
    return metric, paper, mean, low, high, int(n), verdict, why


def judge_claims(statistics: Statistics, encoder: str) -> pd.DataFrame:
    """The claims.

    Args:
        statistics: from `read_statistics`.
        encoder: title of the image encoder.

    Returns:
        Columns `CLAIMS`, all text.
    """
    rows = [
        *_number_claims(judge_numbers(statistics)),
        _ahead_claim(
            "ahead of the methods it is compared with", "Tables 1, 2", statistics["statistics"], 1
        ),
        _ahead_claim(
            "generalises: ahead on TNO, too", "Table 3", statistics["generalise_statistics"], 3
        ),
        *(_part_claim(statistics["table4_statistics"], part) for part in PARTS),
        _semantics_claim(statistics["encoder_statistics"], encoder),
    ]
    return pd.DataFrame(rows, columns=CLAIMS)


def _share(count: int, total: int) -> str:
    return REPRODUCED if count >= SURE * total else PARTLY if count >= HALF * total else NOT


def _number_claims(numbers: pd.DataFrame) -> list[Row]:
    rows = []
    for (dataset, table), group in numbers.groupby(["dataset", "table"], sort=False):
        told = ", ".join(f"{METRICS[r.metric].symbol} {r.paper:g}" for r in group.itertuples())
        tested = group[group["verdict"] != UNTESTABLE]
        claim, where = f"quality of the fused images of {dataset}", f"Table {table}"
        if tested.empty:
            why = "; ".join(dict.fromkeys(group["why"]))
            rows.append((claim, where, told, "–", UNTESTABLE, why))
            continue
        ours = ", ".join(f"{METRICS[r.metric].symbol} {r.ours:.4g}" for r in tested.itertuples())
        counts = tested["verdict"].value_counts()
        good, close = counts.get(REPRODUCED, 0), counts.get(PARTLY, 0)
        why = (
            f"{good} of {len(tested)} numbers reproduced, {close} partly "
            f"(n = {tested['n'].iloc[0]})"
        )
        rows.append((claim, where, told, ours, _share(good, len(tested)), why))
    return rows


def _ahead_claim(claim: str, where: str, statistics: pd.DataFrame, table: int) -> Row:
    """Whether ours has the best mean among the paper's methods that could be measured."""
    tables = (1, 2) if table == 1 else (table,)
    reported = pd.concat([read_reported(number) for number in tables])
    measured = statistics[statistics["dataset"].isin(reported["dataset"].unique())]
    measured = measured[measured["metric"].isin(PAPER)]
    rivals = [m for m in dict.fromkeys(reported["method"]) if m != OURS]
    here = [m for m in rivals if m in set(measured["method"])]
    absent = [m for m in rivals if m not in here]
    known = reported[reported["method"].isin(rivals)][list(PAPER)].notna().any(axis=None)
    told = "see data/paper" if known else "numbers of the others not at hand"
    if measured.empty or not here:
        why = "none of the paper's datasets was measured" if measured.empty else "no rival ran here"
        return claim, where, told, "–", UNTESTABLE, why
    first, cells = (
        0,
        measured[measured["method"].isin([*here, OURS])].groupby(["dataset", "metric"]),
    )
    for (_, metric), group in cells:
        best = group["mean"].max() if METRICS[metric].direction == "higher" else group["mean"].min()
        first += bool((group.loc[group["method"] == OURS, "mean"] == best).all())
    verdict, why = _share(first, len(cells)), f"against {', '.join(here)}"
    if absent:
        reasons = {ELSEWHERE[m].reason if m in ELSEWHERE else "not run here" for m in absent}
        why += f"; not measured: {', '.join(absent)} ({'; '.join(sorted(reasons))})"
        verdict = PARTLY if verdict == REPRODUCED else verdict  # no more can be said
    return claim, where, told, f"first in {first} of {len(cells)} cells", verdict, why


def _part_claim(statistics: pd.DataFrame, part: str) -> Row:
    """Whether the network with a part is better than without it."""
    row = ablation.compare_with(statistics, "full", PAPER).loc[part]
    (dataset,), n = statistics["dataset"].unique(), statistics["n"].iloc[0]
    verdict, why = _verdict_of(row)
    paper = read_reported(4).set_index("method")
    known = paper.loc[part, list(PAPER)].notna().any() if part in paper.index else False
    told = "see data/paper/table4.csv" if known else "numbers of the ablations not at hand"
    ours = f"better in {row['better']}, worse in {row['worse']} of {len(PAPER)} metrics"
    where = "Table 4, Figure 7"
    if dataset not in set(paper["dataset"]):
        return PARTS[part], where, told, ours, UNTESTABLE, f"measured on {dataset} only"
    return PARTS[part], where, told, ours, verdict, f"{why} ({dataset}, n = {n})"


def _verdict_of(row: pd.Series) -> tuple[str, str]:
    """Reproduced: better in most metrics, surely in more than surely worse; partly: one of both."""
    better, worse = (row[f"{side}, p < {LEVEL}"] for side in ("better", "worse"))
    judged = ablation.judge(row)
    sure = f"significantly better in {better}, worse in {worse}"
    if judged == "not tested":
        return UNTESTABLE, "no test: too few images, or equal values"
    is_mostly_better = row["better"] > len(PAPER) / 2
    if judged == "helps":
        return (REPRODUCED if is_mostly_better else PARTLY), sure
    return (PARTLY if judged != "harms" and is_mostly_better else NOT), sure


def _semantics_claim(statistics: pd.DataFrame, encoder: str) -> Row:
    """Whether real features are better than those of another image."""
    row = ablation.compare_with(statistics, "real", PAPER).loc["other_image"]
    (dataset,), n = statistics["dataset"].unique(), statistics["n"].iloc[0]
    verdict, why = _verdict_of(row)
    ours = (
        f"{encoder}: real features better than another image's in {row['better']}, worse in "
        f"{row['worse']} of {len(PAPER)} metrics"
    )
    found = f"{why} ({dataset}, n = {n})"
    if dataset not in set(read_reported(4)["dataset"]):
        verdict, found = UNTESTABLE, f"measured on {dataset} only"
    if not encoder.startswith("CLIP"):
        verdict, found = UNTESTABLE, f"the encoder of this run is not CLIP; with it: {found}"
    return "CLIP's semantics guide the fusion", "section 3", "no number", ours, verdict, found
