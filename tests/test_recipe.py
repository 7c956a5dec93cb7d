"""Learning rates and numbers of steps, worked out by hand or given by the paper."""

import math
from dataclasses import asdict

import numpy as np
import pytest

from fusionlib.recipe import PRESETS, TrainConfig, learning_rate
from fusionlib.weights import SHIPPED, load_weights


def test_learning_rate_at_points_worked_out_by_hand():
    config, total = TrainConfig(), 101  # rises over 20 steps, falls over 80
    rates = [learning_rate(step, total, config) for step in range(total)]
    assert rates[0] == 1e-4
    assert rates[10] == pytest.approx(5.5e-4)  # half way up
    assert rates[20] == pytest.approx(1e-3)
    assert rates[40] == pytest.approx(1e-4 + 9e-4 * (2 + math.sqrt(2)) / 4)  # cos 45°
    assert rates[60] == pytest.approx(5.5e-4)  # half way down
    assert rates[100] == pytest.approx(1e-4)
    assert rates[:21] == sorted(rates[:21]) and rates[20:] == sorted(rates[20:], reverse=True)
    np.testing.assert_allclose(np.diff(rates[:21]), 9e-4 / 20)
    assert [learning_rate(step, 3, config) for step in range(3)] == pytest.approx(
        [1e-4, 1e-3, 1e-4]
    )
    assert learning_rate(0, 1, config) == 1e-4


def test_learning_rate_of_the_paper():
    """100 epochs of 848 pairs in batches of 16: 20 of the epochs are warm-up."""
    config, total = PRESETS["paper"], PRESETS["paper"].total_steps(848)
    assert total == 5300
    assert learning_rate(0, total, config) == 1e-4
    assert learning_rate(20 * 53, total, config) == pytest.approx(1e-3)
    assert learning_rate(total - 1, total, config) == pytest.approx(1e-4)
    assert (config.batch, config.crop, config.loss_weight) == (16, 256, 0.2)


def test_the_recipe_of_the_paper_has_none_of_the_aids():
    paper, shipped = PRESETS["paper"], PRESETS["shipped"]
    assert (paper.clip_norm, paper.average, paper.freeze_norm) == (None, 0, 1)
    changed = {key for key, value in asdict(paper).items() if value != asdict(shipped)[key]}
    assert changed == {"clip_norm", "average", "freeze_norm", "target"}


@pytest.mark.parametrize(("name", "preset"), [("letter", "paper"), ("full", "shipped")])
def test_weights_were_trained_by_the_recipe_they_stand_for(name, preset):
    record = load_weights(SHIPPED.with_name(f"{name}.safetensors")).record
    free = ("network", "steps", "validate_every")
    expected = {k: v for k, v in asdict(PRESETS[preset]).items() if k not in free}
    assert {k: v for k, v in record["config"].items() if k not in free} == expected


def test_number_of_steps():
    assert TrainConfig(epochs=3, batch=4).total_steps(9) == 9  # three batches hold nine pairs
    assert TrainConfig(epochs=3, batch=4).total_steps(8) == 6
    assert TrainConfig(epochs=3, batch=4, steps=5).total_steps(9) == 5
    assert TrainConfig(epochs=3, steps=0).total_steps(9) == 0
