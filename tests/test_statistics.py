import numpy as np
import pandas as pd
import pytest

from fusionlib.statistics import LEAST_PAIRS, holm, interval, summarise


def frame(metric="qabf", **methods):
    rows = [
        ("TNO", f"{i:02d}", method, metric, float(value))
        for method, values in methods.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["dataset", "name", "method", "metric", "value"])


def row(summary, method):
    return summary[summary["method"] == method].iloc[0]


def test_means_and_ranks_by_hand():
    summary = summarise(frame(ours=[1, 2, 3], other=[2, 1, 3]))
    assert row(summary, "ours")["mean"] == row(summary, "other")["mean"] == 2
    # ranks of ours: 2, 1, and 1.5 where both are equal
    assert row(summary, "ours")["rank"] == pytest.approx((2 + 1 + 1.5) / 3)
    assert row(summary, "ours")["n"] == 3


def test_lower_is_better_ranks_the_other_way():
    summary = summarise(frame("qcv", ours=[1, 2, 3], other=[2, 3, 4]))
    assert row(summary, "ours")["rank"] == 1 and row(summary, "other")["rank"] == 2


def test_holm_on_the_example_of_his_rule():
    # 0.01·4, then max(0.04, 0.02·3), max(0.06, 0.03·2), max(0.06, 0.04·1)
    assert holm(np.array([0.03, 0.01, 0.04, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1, 1])


def test_wilcoxon_by_counting_signs():
    """Six pairs that all differ one way: 2 of the 2⁶ sign patterns are as extreme."""
    ours = np.arange(6.0)
    summary = summarise(frame(ours=ours, worse=ours - [1, 2, 3, 4, 5, 6]))
    assert row(summary, "worse")["p"] == pytest.approx(2 / 64)
    assert 2 / 2**LEAST_PAIRS < 0.05 < 2 / 2 ** (LEAST_PAIRS - 1)  # where it can be significant
    # three methods: Holm multiplies the smallest by two
    more = summarise(
        frame(ours=ours, a=ours - [1, 2, 3, 4, 5, 6], b=np.add(ours, [1, -2, 3, -4, 5, -6]))
    )
    assert row(more, "a")["p"] == pytest.approx(4 / 64)
    assert np.isnan(row(more, "ours")["p"])


def test_the_interval_is_the_normal_one_for_many_values():
    values = np.random.default_rng(0).normal(10, 2, 2000)
    mean, low, high, note = interval(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert note == "" and mean == values.mean()
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.01)
    assert interval(values) == (mean, low, high, "")  # the same every time


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ({"ours": [1, 2, 3, 4, 5], "other": [2, 3, 4, 5, 6]}, "test not computed: n < 6"),
        ({"ours": range(6), "other": range(6)}, "test not computed: all values equal"),
        ({"other": range(6)}, "test not computed: nothing to compare with"),
        ({"ours": range(6), "other": [*range(5), np.nan]}, "test not computed: undefined values"),
    ],
)
def test_r50_what_cannot_be_computed_says_why(methods, told):
    other = row(summarise(frame(**methods)), "other")
    assert np.isnan(other["p"]) and told in other["note"]


def test_r49_an_undefined_value_leaves_no_mean_and_no_rank():
    summary = summarise(frame(ours=range(6), other=[*range(5), np.nan]))
    other, ours = row(summary, "other"), row(summary, "ours")
    assert np.isnan(other["mean"]) and "1 of 6 values undefined" in other["note"]
    assert np.isnan(other["rank"]) and np.isnan(ours["rank"]) and ours["mean"] == 2.5


def test_one_image_has_a_mean_and_no_interval():
    mean, low, high, note = interval(np.array([3.0]))
    assert mean == 3 and np.isnan(low) and np.isnan(high) and "n = 1" in note


def test_r47_methods_on_different_images_are_refused():
    uneven = frame(ours=range(6), other=range(5))
    with pytest.raises(ValueError, match="TNO, qabf"):
        summarise(uneven)
