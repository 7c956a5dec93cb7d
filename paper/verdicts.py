"""Our numbers against the paper's, and our lead over its rivals against the lead that it reports.

A verdict compares a reported number with the 95 % interval of ours over the test images. All comes
from per-image values, their statistics and ``data/paper``; nothing is typed.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from fusionlib.metrics import METRICS, PAPER
from fusionlib.statistics import CONFIDENCE, RESAMPLES
from paper import tables
from paper.reported import OURS, OWN, read_reported

VERDICTS = EXCEEDS, AGREES, SHORT, UNMEASURED = "exceeds", "agrees", "falls short", "not measured"
JUDGED = ["paper", "here", "low", "high", "n", "reaches", "verdict"]
NUMBERS = ["method", "dataset", "metric", *JUDGED]
RELATIVE = ["method", "rival", "dataset", "metric", *JUDGED]
BESIDE = ("SeAFusion", "maximum", "laplacian")  # what the same numbers take without CLIP
KEYS = ["dataset", "metric", "method"]

Frames = dict[str, pd.DataFrame]  # values and statistics by the name of their file


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
    found, rows = measured_numbers(frames).set_index(KEYS), []
    for method in methods:
        for (dataset, metric, of), paper in reported_numbers().items():
            if of == OURS:
                key = (dataset, metric, method)
                here = found.loc[key, ["mean", "low", "high", "n"]] if key in found.index else None
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
    n = len(above)
    if not (above.mean() > 0 and below.mean() > 0):  # a mean of SCD may be negative; or NaN
        return np.nan, np.nan, np.nan, n
    ratio = above.mean() / below.mean()
    if n < 2:
        return ratio, np.nan, np.nan, n
    found = stats.bootstrap(
        (above, below),
        lambda a, b, axis: a.mean(axis) / b.mean(axis),
        paired=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return ratio, float(found.low), float(found.high), n


def count_verdicts(judged: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """How many cells of `judge_numbers` or `judge_relative` have which verdict.

    Returns:
        Index ``by``; a column for each of `VERDICTS`, ``reaches`` (the mean is at least as
        good as the paper's, whatever the interval), and ``cells``.
    """
    flags = pd.DataFrame({verdict: judged["verdict"] == verdict for verdict in VERDICTS})
    flags = flags.assign(reaches=judged["reaches"] == "yes", cells=True)
    return flags.groupby([judged[name] for name in by], sort=False).sum()


def overview(frames: Frames, relative: pd.DataFrame) -> pd.DataFrame:
    """`count_verdicts` in one table; ``relative`` is from `judge_relative`.

    Returns:
        Index ``(against, method)``: the paper's numbers for ours and for `BESIDE`, then the paper's
        lead for ours.
    """
    numbers = judge_numbers(frames, (*OWN, *BESIDE)).assign(against="the paper's numbers")
    rivals = ", ".join(relative["rival"].unique())
    leads = relative.assign(against=f"the paper's lead over {rivals}")
    return count_verdicts(pd.concat([numbers, leads]), ["against", "method"])


def grid(judged: pd.DataFrame, decimals: int | None = None) -> pd.DataFrame:
    """Judged numbers laid out as in the paper, each cell ours, the paper's and the verdict.

    Args:
        judged: of one method, from `judge_numbers` or `judge_relative`.
        decimals: None for those of the paper.
    """
    cells = [
        f"{row.here:.{places}f} / {row.paper:.{places}f} {row.verdict}"
        for row in judged.itertuples()
        for places in [decimals or tables.DECIMALS.get(row.metric, 4)]
    ]
    titles = judged["metric"].map(lambda name: METRICS[name].title)
    index = [judged[name] for name in ("rival", "dataset") if name in judged]
    return pd.Series(cells, [*index, titles], dtype=str).unstack("metric", sort=False)
