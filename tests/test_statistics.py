import numpy as np
import pandas as pd
import pytest

from fusionlib.statistics import holm, interval, summarise


def summary(metric="qabf", **methods):
    """Rows of the methods, of values on images 00, 01, …"""
    rows = [
        ("TNO", f"{i:02d}", method, metric, float(value))
        for method, values in methods.items()
        for i, value in enumerate(values)
    ]
    frame = pd.DataFrame(rows, columns=["dataset", "name", "method", "metric", "value"])
    return summarise(frame).set_index("method")


def test_means_and_ranks_by_hand():
    found = summary(ours=[1, 2, 3], other=[2, 1, 3])
    assert found["mean"].tolist() == [2, 2] and found["n"].tolist() == [3, 3]
    # ranks of ours: 2, 1, and 1.5 where both are equal
    assert found["rank"]["ours"] == pytest.approx((2 + 1 + 1.5) / 3)
    lower_is_better = summary("qcv", ours=[1, 2, 3], other=[2, 3, 4])
    assert lower_is_better["rank"].tolist() == [1, 2]


def test_holm_on_the_example_of_his_rule():
    # 0.01·4, then max(0.04, 0.02·3), max(0.06, 0.03·2), max(0.06, 0.04·1)
    assert holm(np.array([0.03, 0.01, 0.04, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1, 1])


def test_wilcoxon_by_counting_signs():
    """Six pairs that all differ one way: 2 of the 2⁶ sign patterns are as extreme."""
    ours, steps = np.arange(6.0), np.arange(1, 7)
    assert summary(ours=ours, worse=ours - steps)["p"]["worse"] == pytest.approx(2 / 64)
    # three methods: Holm multiplies the smallest by two
    more = summary(ours=ours, a=ours - steps, b=ours + steps * [1, -1, 1, -1, 1, -1])
    assert more["p"]["a"] == pytest.approx(4 / 64) and np.isnan(more["p"]["ours"])


def test_the_interval_is_the_normal_one_for_many_values():
    values = np.random.default_rng(0).normal(10, 2, 2000)
    mean, low, high, note = interval(values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert note == "" and mean == values.mean()
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.01)
    assert interval(values) == (mean, low, high, "")  # the same every time
    mean, low, high, note = interval(np.array([3.0]))
    assert mean == 3 and np.isnan(low) and np.isnan(high) and "n = 1" in note


@pytest.mark.parametrize(
    ("methods", "note"),
    [
        ({"ours": [1, 2, 3, 4, 5], "other": [2, 3, 4, 5, 6]}, "test not computed: n < 6"),
        ({"ours": range(6), "other": range(6)}, "test not computed: all values equal"),
        ({"other": range(6)}, "test not computed: nothing to compare with"),
        ({"ours": range(6), "other": [*range(5), np.nan]}, "test not computed: undefined values"),
    ],
)
def test_r49_r50_what_cannot_be_computed_says_why(methods, note):
    found = summary(**methods)
    assert np.isnan(found["p"]["other"]) and note in found["note"]["other"]
    if "undefined" in note:  # neither a mean nor ranks
        assert "1 of 6 values undefined" in found["note"]["other"]
        assert np.isnan(found["mean"]["other"]) and found["mean"]["ours"] == 2.5
        assert found["rank"].isna().all()


def test_r47_methods_on_different_images_are_refused():
    with pytest.raises(ValueError, match="TNO, qabf"):
        summary(ours=range(6), other=range(5))
