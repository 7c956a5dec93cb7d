"""Does it reproduce: the paper's numbers, its lead over rivals, and what its text claims.

All comes from per-image values, their statistics and ``data/paper``; no verdict is typed. One on a
number compares it with the 95 % interval of ours over the test images; claims are taken literally.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from fusionlib import evaluation
from fusionlib.errors import DatasetError
from fusionlib.files import REPOSITORY, file_sha256
from fusionlib.metrics import METRICS, PAPER
from fusionlib.statistics import CONFIDENCE, LEVEL, RESAMPLES
from paper import ablation
from paper.pipeline import read_json
from paper.reported import OURS, OWN, read_reported
from paper.run import Run
from paper.tables import DECIMALS

OUTCOMES = EXCEEDS, AGREES, SHORT, UNMEASURED = "exceeds", "agrees", "falls short", "not measured"
JUDGED = ["paper", "here", "low", "high", "n", "reaches", "verdict"]
NUMBERS = ["method", "dataset", "metric", *JUDGED]
RELATIVE = ["method", "rival", "dataset", "metric", *JUDGED]
BESIDE = ("SeAFusion", "maximum", "laplacian")  # what the same numbers take without CLIP
KEYS = ["dataset", "metric", "method"]
HOLDS, PARTLY, NOT = "holds", "in part", "does not hold"
NO_EFFECT, UNTESTABLE = "no effect shown", "not testable here"
CLAIMS = ["claim", "where", "paper", "here", "verdict", "why"]
FILES = ("compare_values", "generalise_values", "brightness_values", "statistics",
         "generalise_statistics", "table4_statistics", "encoder_statistics")  # fmt: skip
NO_RIVAL = "no rival was measured on these datasets"
LUMA = {"mean": "higher brightness", "contrast": "higher contrast"}
RANKED = (  # claim, where, tables, metrics, place, whether in all cells or in most
    ("outperforms most other methods", "4.4.1, Tables 1, 2", (1, 2), PAPER, 1, False),
    ("ranks first in Q_AB/F and Q_CV", "4.4.1, Tables 1, 2", (1, 2), ("qabf", "qcv"), 1, True),
    ("optimal or near-optimal in all metrics on TNO", "4.4.2, Table 3", (3,), PAPER, 2, True),
)
PARTS = (  # method of Table 4, claim, where, whether in all metrics or in most
    ("without_cii", "better than without CII in most metrics", "4.5.1, Table 4", False),
    ("without_cff", "better than without CFF in all metrics", "4.5.2, Table 4", True),
    ("without_both", "better than without CII and CFF", "Table 4", False),
)

Frames = dict[str, pd.DataFrame]  # values and statistics by the name of their file
Row = tuple[str, str, str, str, str, str]


def find_tables(run: Run) -> Path:
    """Folder of the tables of a run; of the published ones if it has none and they fit.

    Published tables fit if their records name the weights of this run: others were made with
    other weights, and perhaps another encoder.
    """
    published, here = REPOSITORY / "tables" / run.label, run.tables()
    if all((here / f"{name}.csv").is_file() for name in FILES):
        return here
    steps = read_json(published / "provenance.json").get("steps", {})
    # without that of 08, which this is for
    used = {step["weights"]["sha256"] for stem, step in steps.items() if stem != "08_report"}
    return published if used == {file_sha256(run.weights)} else here


def read_frames(folder: Path) -> Frames:
    """Values and statistics that 05 to 07 wrote, by name.

    Raises:
        DatasetError: some are missing; names the notebooks that write them.
    """
    paths = {name: folder / f"{name}.csv" for name in FILES}
    if missing := [path.name for path in paths.values() if not path.is_file()]:
        raise DatasetError(
            f"{folder}: no {', '.join(missing)}; run 05_compare, 06_generalise and 07_ablation "
            f"first (python -m paper)"
        )
    return {
        name: (evaluation.read_values if name.endswith("_values") else pd.read_csv)(path)
        for name, path in paths.items()
    }


def reported_numbers(numbers: Sequence[int] = (1, 2, 3)) -> pd.Series:
    """The paper's numbers; index `KEYS`."""
    wide = pd.concat([read_reported(number) for number in numbers]).rename_axis(columns="metric")
    return wide.set_index(["dataset", "method"])[list(PAPER)].stack().reorder_levels(KEYS)


def measured_numbers(frames: Frames) -> pd.DataFrame:
    """The statistics of Tables 1 to 3."""
    return pd.concat([frames["statistics"], frames["generalise_statistics"]])


def judge(paper: float, here: Sequence[float] | None, direction: str = "higher") -> tuple:
    """Judge one number.

    Args:
        paper: the reported number.
        here: our mean, its 95 % interval (low, high), and the number of images; or None.
        direction: which numbers are better, ``higher`` or ``lower``.

    Returns:
        The columns `JUDGED`: both numbers, then whether ours is at least as good (``yes``, ``no``),
        and the verdict: *agrees* if the reported number lies in our interval, else *exceeds* or
        *falls short*; *not measured* without an interval.
    """
    mean, low, high, n = (np.nan, np.nan, np.nan, 0) if here is None else here
    is_better = mean > paper if direction == "higher" else mean < paper
    reaches = "–" if np.isnan(mean) else "yes" if is_better or mean == paper else "no"
    outside = EXCEEDS if is_better else SHORT
    verdict = UNMEASURED if np.isnan(low) else AGREES if low <= paper <= high else outside
    return paper, mean, low, high, int(n), reaches, verdict


def judge_numbers(frames: Frames, methods: tuple[str, ...] = OWN) -> pd.DataFrame:
    """Methods measured here against the numbers that the paper reports of its own.

    Returns:
        Columns `NUMBERS`: 30 rows a method, five datasets and six metrics, measured or not.
    """
    found, rows = measured_numbers(frames).set_index(KEYS)[["mean", "low", "high", "n"]], []
    for method in methods:
        for (dataset, metric), paper in reported_numbers().xs(OURS, level="method").items():
            key = (dataset, metric, method)
            here = found.loc[key] if key in found.index else None
            judged = judge(paper, here, METRICS[metric].direction)
            rows.append((method, dataset, metric, *judged))
    return pd.DataFrame(rows, columns=NUMBERS)


def judge_relative(frames: Frames) -> pd.DataFrame:
    """Our lead over the paper's rivals on the same images, against the lead that it reports.

    The lead is the ratio of the means, ours to the rival's, or the rival's to ours where lower is
    better, so that above 1 is ahead. Most of what test images and metric code do cancels in it.

    Returns:
        Columns `RELATIVE`, for each rival and dataset that were measured. The interval is a paired
        percentile bootstrap over the images.
    """
    values = pd.concat([frames["compare_values"], frames["generalise_values"]])
    here = {key: group["value"].to_numpy() for key, group in values.groupby(KEYS)}
    paper, rows = reported_numbers(), []
    for method in OWN:
        for dataset, metric, rival in paper.index:
            pair = [here.get((dataset, metric, name)) for name in (method, rival)]
            if rival == OURS or any(found is None for found in pair):
                continue
            lead = paper[dataset, metric, OURS] / paper[dataset, metric, rival]
            if METRICS[metric].direction == "lower":
                lead, pair = 1 / lead, pair[::-1]
            rows.append((method, rival, dataset, metric, *judge(lead, _ratio(*pair))))
    frame = pd.DataFrame(rows, columns=RELATIVE)
    return frame.sort_values(["method", "rival"], kind="stable", ignore_index=True)


def _ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, float, float, int]:
    """Ratio of two means over the same n images, its 95 % interval, and n; NaN where undefined."""
    n, low, high = len(above), np.nan, np.nan
    if not (above.mean() > 0 and below.mean() > 0):  # a mean of SCD may be negative; or NaN
        return np.nan, low, high, n
    if n > 1:
        low, high = stats.bootstrap(
            (above, below),
            lambda a, b, axis: a.mean(axis) / b.mean(axis),
            paired=True,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return above.mean() / below.mean(), low, high, n


def overview(frames: Frames, relative: pd.DataFrame) -> pd.DataFrame:
    """How many cells of the paper have which verdict; ``relative`` is from `judge_relative`.

    Returns:
        Index ``(against, method)``: the paper's numbers for ours and for `BESIDE`, then the paper's
        lead for ours; a column for each of `OUTCOMES`, ``reaches`` (the mean is at least as good as
        the paper's, whatever the interval), and ``cells``.
    """
    numbers = judge_numbers(frames, (*OWN, *BESIDE)).assign(against="the paper's numbers")
    rivals = ", ".join(relative["rival"].unique())
    judged = pd.concat([numbers, relative.assign(against=f"the paper's lead over {rivals}")])
    flags = pd.DataFrame({verdict: judged["verdict"] == verdict for verdict in OUTCOMES})
    flags = flags.assign(reaches=judged["reaches"] == "yes", cells=True)
    return flags.groupby([judged["against"], judged["method"]], sort=False).sum()


def grid(judged: pd.DataFrame, decimals: int | None = None) -> pd.DataFrame:
    """Judged numbers laid out as in the paper, each cell ours, the paper's and the verdict.

    Args:
        judged: of one method, from `judge_numbers` or `judge_relative`.
        decimals: None for those of the paper.
    """
    cells = [
        f"{row.here:.{places}f} / {row.paper:.{places}f} {row.verdict}"
        for row in judged.itertuples()
        for places in [decimals or DECIMALS.get(row.metric, 4)]
    ]
    titles = judged["metric"].map(lambda name: METRICS[name].title)
    index = [judged[name] for name in ("rival", "dataset") if name in judged]
    return pd.Series(cells, [*index, titles], dtype=str).unstack("metric", sort=False)


def judge_claims(frames: Frames, encoder: str) -> pd.DataFrame:
    """What the text claims, taken literally, with the paper's own count beside ours.

    Args:
        frames: from `read_frames`.
        encoder: title of the image encoder.

    Returns:
        Columns `CLAIMS`, all text. *Holds*: in as many cells as the text says, against all the
        paper's rivals; *in part*: in at least half of them, or not all rivals were measured; else
        *does not hold*. Of a part of the network also by paired tests: *no effect shown* if no
        metric differs significantly; one step lower if not more metrics are significantly better
        than worse.
    """
    rows = [_place_claim(frames, *claim) for claim in RANKED]
    rows += [_luma_claim(frames["brightness_values"], metric) for metric in LUMA]
    rows += [_part_claim(frames["table4_statistics"], *part) for part in PARTS]
    rows += [_semantics_claim(frames["encoder_statistics"], encoder)]
    return pd.DataFrame(rows, columns=CLAIMS)


def _judge_count(count: int, total: int, is_all: bool) -> str:
    needed = total if is_all else total // 2 + 1
    return HOLDS if count >= needed else PARTLY if 2 * count >= total else NOT


def _places(cells: pd.Series) -> pd.Series:
    """Place of ours among the methods; index (dataset, metric)."""
    wide = cells.unstack("metric")
    wide = (wide * ablation.sign_of(wide)).stack().unstack("method")
    return wide.rank(axis=1, method="min", ascending=False)[OURS].dropna()


def _place_claim(
    frames: Frames, claim: str, where: str, numbers: Sequence[int], metrics: Sequence[str],
    place: int, is_all: bool,
) -> Row:  # fmt: skip
    """In how many cells ours is first, or second, among the paper's methods that were measured."""

    def count(places: pd.Series) -> str:
        return f"{(places <= place).sum()} of {len(places)}"

    paper = reported_numbers(numbers)
    paper = paper[paper.index.isin(metrics, level="metric")]
    here = measured_numbers(frames).set_index(KEYS)["mean"]
    here = here[here.index.isin(paper.index)]
    rivals = here.index.unique("method").drop(OURS, errors="ignore")
    title = "first in" if place == 1 else "first or second in"
    row = (claim, where, f"{title} {count(_places(paper))}")
    if rivals.empty:
        return *row, "–", UNTESTABLE, NO_RIVAL
    places, why = _places(here), []
    verdict = _judge_count((places <= place).sum(), len(places), is_all)
    order = paper.xs(OURS, level="method").index
    if behind := [f"{d} {METRICS[m].symbol}" for d, m in order if places.get((d, m), 0) > place]:
        why.append(f"not in {', '.join(behind)}")
    if len(here) < len(paper):  # no more can be said
        verdict = PARTLY if verdict == HOLDS else verdict
        same = _places(paper[paper.index.isin(here.index)])
        why.append(f"only against {', '.join(rivals)} (the paper: {count(same)})")
    return *row, f"{title} {count(places)}", verdict, "; ".join(why)


def _luma_claim(values: pd.DataFrame, metric: str) -> Row:
    """Whether the mean (brightness) or standard deviation (contrast) of our luma is higher."""
    row = (LUMA[metric], "4.4.1, Figures 4, 5", "no number")
    paper = reported_numbers((1, 2)).index
    values = values[
        (values["metric"] == metric)
        & values["method"].isin(paper.unique("method"))
        & values["dataset"].isin(paper.unique("dataset"))
    ]
    means = values.groupby(["method", "dataset"])["value"].mean(skipna=False).unstack().dropna()
    if len(means) < 2:
        return *row, "–", UNTESTABLE, NO_RIVAL
    higher = means.loc[OURS] > means.drop(OURS)
    count, (_, on) = int(higher.sum(axis=None)), higher.shape
    why = ", ".join(f"{m}: on {n} of {on} datasets" for m, n in higher.sum(axis=1).items())
    verdict = _judge_count(count, higher.size, True)
    return *row, f"in {count} of {higher.size} comparisons", verdict, why


def _part_claim(statistics: pd.DataFrame, part: str, claim: str, where: str, is_all: bool) -> Row:
    """Whether the whole network is better than one without a part."""
    paper = reported_numbers([4])
    (dataset,) = paper.index.unique("dataset")
    places = _places(paper[paper.index.isin([OURS, part], level="method")])
    row = (claim, where, f"better in {(places == 1).sum()} of {len(places)}")
    if set(statistics["dataset"]) != {dataset}:
        return *row, "–", UNTESTABLE, f"not measured on {dataset}"
    if part not in set(statistics["method"]):
        return *row, "–", ablation.NOT_TRAINED, "no weights of this variant"
    return *row, *judge_paired(statistics, OURS, part, is_all)


def judge_paired(
    statistics: pd.DataFrame, ours: str, other: str, is_all: bool = False
) -> tuple[str, str, str]:
    """Whether a method is better than another on the same images, by means and paired tests.

    Args:
        statistics: of one dataset, from `fusionlib.statistics.summarise` with this ``ours``.
        ours: the method that should be better.
        other: the other one.
        is_all: in all metrics, or in most.

    Returns:
        Count of the means, verdict (see `judge_claims`), and what the tests say.
    """
    row = ablation.compare_with(statistics, ours, PAPER).loc[other]
    better, worse = row[f"better, p < {LEVEL}"], row[f"worse, p < {LEVEL}"]
    here = f"better in {row['better']} of {len(PAPER)}"
    why = f"significantly better in {better}, worse in {worse}"
    if row["untested"] == len(PAPER):
        return here, UNTESTABLE, "no paired test: too few images, or equal values"
    if not better and not worse:
        return here, NO_EFFECT, why
    verdict = _judge_count(row["better"], len(PAPER), is_all)
    if better <= worse:
        verdict = PARTLY if verdict == HOLDS else NOT
    return here, verdict, why


def _semantics_claim(statistics: pd.DataFrame, encoder: str) -> Row:
    """Whether the right features of the encoder are better than those of another image."""
    groups = statistics.groupby("dataset", sort=False)
    found = {d: judge_paired(group, "real", "other_image") for d, group in groups}
    counts = ", ".join(f"{dataset} {count}" for dataset, (count, _, _) in found.items())
    here = f"with the right features, not another image's: {counts}"
    why = "; ".join(f"{dataset}: {v}, {tests}" for dataset, (_, v, tests) in found.items())
    verdicts = {verdict for _, verdict, _ in found.values()}
    verdict = verdicts.pop() if len(verdicts) == 1 else PARTLY
    if not encoder.startswith("CLIP"):
        verdict, why = UNTESTABLE, f"the encoder is {encoder}; with it, {why}"
    elif not set(found) <= set(reported_numbers().index.levels[0]):
        verdict, why = UNTESTABLE, "measured on drawn scenes only"
    return "CLIP's semantics guide the fusion", "3.2, 3.3", "no number", here, verdict, why
