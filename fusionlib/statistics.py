"""What the differences between methods are worth: intervals, paired tests, ranks."""

import numpy as np
import pandas as pd
from scipy import stats

from fusionlib.metrics import METRICS

CONFIDENCE = 0.95
LEVEL = 0.05  # of significance
RESAMPLES = 9999
LEAST_PAIRS = 6  # with fewer, no Wilcoxon test can fall below 0.05


def summarise(frame: pd.DataFrame, ours: str = "ours", seed: int = 0) -> pd.DataFrame:
    """One row a dataset, metric and method.

    Args:
        frame: columns ``dataset, name, method, metric, value``, every method on the same images.
        ours: the method the others are compared with.
        seed: of the bootstrap.

    Returns:
        Columns ``dataset, metric, method, n, mean, low, high, rank, p, note``: the mean over n
        images with its 95 % bootstrap interval; the mean over images of the method's rank (1 is
        best, ties share); p of a two-sided paired Wilcoxon test against ``ours``, Holm-corrected
        over the methods of that dataset and metric. What cannot be computed is NaN, and ``note``
        says why.

    Raises:
        ValueError: the methods were not measured on the same images.
    """
    rows = []
    for (dataset, metric), group in frame.groupby(["dataset", "metric"], sort=False):
        wide = group.pivot(index="name", columns="method", values="value")
        wide = wide[list(dict.fromkeys(group["method"]))]
        if (group.groupby("method")["name"].nunique() != len(wide)).any():
            raise ValueError(f"{dataset}, {metric}: the methods have values for different images")
        is_lower = metric in METRICS and METRICS[metric].direction == "lower"
        ranks = wide.rank(axis=1, ascending=is_lower).mean()
        if wide.isna().any(axis=None):
            ranks[:] = np.nan
        for method in wide:
            mean, low, high, note = interval(wide[method].to_numpy(), seed)
            p, why = _compare(wide, method, ours)
            notes = "; ".join(filter(None, (note, why)))
            rank = ranks[method]
            rows.append((dataset, metric, method, len(wide), mean, low, high, rank, p, notes))
    columns = ["dataset", "metric", "method", "n", "mean", "low", "high", "rank", "p", "note"]
    summary = pd.DataFrame(rows, columns=columns)
    tested = summary.dropna(subset="p").groupby(["dataset", "metric"])["p"]
    summary["p"] = tested.transform(lambda p: holm(p.to_numpy())).astype(float)
    return summary


def _compare(wide: pd.DataFrame, method: str, ours: str) -> tuple[float, str]:
    """P of a paired test of a method against ours, or NaN and why."""
    if ours not in wide or len(wide.columns) < 2:
        return np.nan, "test not computed: nothing to compare with"
    if method == ours:
        return np.nan, ""
    difference = (wide[method] - wide[ours]).to_numpy()
    if np.isnan(difference).any():
        return np.nan, "test not computed: undefined values"
    if len(difference) < LEAST_PAIRS:
        return np.nan, f"test not computed: n < {LEAST_PAIRS}"
    if not difference.any():
        return np.nan, "test not computed: all values equal"
    return float(stats.wilcoxon(difference).pvalue), ""


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float, float, str]:
    """Mean of some values and its 95 % percentile-bootstrap interval.

    Args:
        values: (n,).
        seed: of the resampling.

    Returns:
        Mean, lower and upper end, and an empty note; NaN with the reason for what there is not.
    """
    undefined = int(np.isnan(values).sum())
    if undefined:
        return np.nan, np.nan, np.nan, f"{undefined} of {len(values)} values undefined"
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, np.nan, np.nan, "interval not computed: n = 1"
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return mean, float(found.low), float(found.high), ""


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction of m p-values, (m,): the k-th smallest is multiplied by m − k + 1."""
    order = np.argsort(p)
    scaled = np.minimum(p[order] * np.arange(len(p), 0, -1), 1)
    corrected = np.empty_like(scaled)
    corrected[order] = np.maximum.accumulate(scaled)
    return corrected
