"""What a step computes, and what is validated, logged and saved."""

import csv
import dataclasses
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from trainings import CONFIG, assert_same_training

from fusionlib import training
from fusionlib.encoder import ImageEncoder
from fusionlib.errors import TrainingError, WeightsError
from fusionlib.losses import fusion_loss
from fusionlib.training import LOG_COLUMNS, Trainer, forward_loss, learning_rate
from fusionlib.weights import load_weights

pytestmark = pytest.mark.long


def test_forward_loss_uses_the_ranges_of_network_and_losses(encoder):
    seen = {}

    def net(ir, vi, c_ir, c_vi):
        seen.update(ir=ir, vi=vi, c_ir=c_ir, c_vi=c_vi)
        return ir.roll(1, dims=-1)

    generator = torch.Generator().manual_seed(0)
    ir, vi = torch.rand(2, 4, 16, 16, generator=generator).split((1, 3), dim=1)
    config = dataclasses.replace(CONFIG, loss_weight=0.7, target="magnitude")
    found = forward_loss(net, encoder, ir, vi, config)
    expected = {"ir": 2 * ir - 1, "vi": 2 * vi - 1, "c_ir": encoder(ir), "c_vi": encoder(vi)}
    torch.testing.assert_close(seen, expected)
    y = 0.299 * vi[:, :1] + 0.587 * vi[:, 1:2] + 0.114 * vi[:, 2:]
    expected = fusion_loss(ir.roll(1, dims=-1), ir, y, weight=0.7, target="magnitude")
    torch.testing.assert_close(found, expected)


def test_steps_move_all_weights_at_the_rate_of_the_recipe(build, encoder):
    """And the kept ones are their moving average; the encoder stays as it is."""
    trainer = build(average=0.75)
    frozen = {key: value.clone() for key, value in encoder.state_dict().items()}
    weights = dict(trainer.net.named_parameters())
    average = {key: value.detach().clone() for key, value in weights.items()}
    for step in range(3):
        before = {key: value.detach().clone() for key, value in weights.items()}
        trainer.run(until=step + 1, progress=False)
        assert not any(torch.equal(value, before[key]) for key, value in weights.items())
        average = {key: 0.75 * average[key] + 0.25 * weights[key].detach() for key in weights}
        rate = learning_rate(step, 8, CONFIG)
        assert [g["lr"] for g in trainer.optimizer.param_groups] == [rate]
        assert trainer.log[step]["lr"] == rate
    torch.testing.assert_close(average, {k: trainer.kept.state_dict()[k] for k in average})
    assert type(trainer.optimizer) is torch.optim.Adam
    assert all(torch.equal(value, frozen[key]) for key, value in encoder.state_dict().items())
    assert not encoder.training and trainer.net.config.embed == encoder.embed == 6


def test_loss_falls(build):
    log = build(steps=40, lr_peak=1e-2, validate_every=100).run(progress=False)
    losses = [row["loss"] for row in log]
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_only_the_seed_decides_and_random_numbers_of_the_caller_are_untouched(
    build, whole, tmp_path
):
    torch.manual_seed(123)
    np.random.seed(11)
    before = torch.get_rng_state(), np.random.get_state()
    log = build().run(progress=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    after = np.random.get_state()
    assert np.array_equal(after[1], before[1][1]) and after[2] == before[1][2]
    assert_same_training(tmp_path / "run", whole)
    other = build("other", seed=6).run(until=1, progress=False)
    assert other[0]["loss"] != log[0]["loss"]


def test_validation_sees_the_same_crops_each_time_and_changes_nothing(build, monkeypatch):
    trainer = build()
    seen, forward = [], ImageEncoder.forward
    first = trainer.validate(trainer.net)
    trainer.run(until=2, progress=False)
    before = {key: value.clone() for key, value in trainer.net.state_dict().items()}
    monkeypatch.setattr(
        ImageEncoder, "forward", lambda self, x: (seen.append(x), forward(self, x))[1]
    )
    second = trainer.validate(trainer.net)
    assert second != first  # the network is another one
    assert trainer.validate(trainer.net) == second
    half = len(seen) // 2
    assert half and all(map(torch.equal, seen[:half], seen[half:]))
    for key, value in trainer.net.state_dict().items():  # batch statistics, too
        assert torch.equal(value, before[key])


def test_validation_is_the_mean_over_pairs_whatever_the_batch(pairs, encoder, tmp_path):
    values = []
    for batch in (1, 2, 5):
        config = dataclasses.replace(CONFIG, batch=batch)
        trainer = Trainer(config, encoder, pairs, pairs, tmp_path / str(batch))
        values.append(trainer.validate(trainer.net))
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)


def test_log_and_record_say_how_the_weights_came_about(whole, encoder):
    assert b"\r" not in (whole / "log.csv").read_bytes()
    with (whole / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == LOG_COLUMNS
    assert [int(row["step"]) for row in rows] == list(range(8))
    for row in rows:
        expected = float(row["loss_grad"]) + 0.2 * float(row["loss_int"])
        assert float(row["loss"]) == pytest.approx(expected, rel=1e-5)
    validated = {
        int(row["step"]) + 1: float(row["val_loss_average"]) for row in rows if row["val_loss"]
    }
    assert list(validated) == [3, 6, 8]
    last, best = (load_weights(whole / f"{name}.safetensors", encoder) for name in ("last", "best"))
    assert best.record["steps"] == min(validated, key=validated.get)
    assert best.record["best_val_loss"] == min(validated.values()) == last.record["best_val_loss"]
    assert last.record["steps"] == last.record["of_steps"] == 8
    assert last.record["train_pairs"] == {"Textures": 3} and last.record["val_pairs"] == 2
    mean = sum(float(row["loss"]) for row in rows) / 8
    assert last.record["mean_loss_of_last_100_steps"] == pytest.approx(mean)
    assert last.record["config"]["network"]["embed"] == 6 and last.record["config"]["seed"] == 5
    kept = torch.load(whole / "checkpoint.pt", weights_only=True)["kept"]
    assert all(torch.equal(value, kept[key]) for key, value in last.net.state_dict().items())


@pytest.mark.parametrize(("average", "step", "loss"), [(0.5, 4, 1.5), (0.0, 2, 1.0)])
def test_best_weights_are_those_of_the_lowest_validation_loss(
    build, monkeypatch, tmp_path, average, step, loss
):
    """Of the average, if there is one."""
    trainer = build(steps=6, average=average, validate_every=2)
    losses = {id(trainer.kept): iter([3.0, 1.5, 2.0])}
    losses[id(trainer.net)] = iter([1.0, 2.0, 3.0])  # without average the only one
    monkeypatch.setattr(Trainer, "validate", lambda self, net: next(losses[id(net)]))
    trainer.run(until=step, progress=False)
    kept = {key: value.clone() for key, value in trainer.kept.state_dict().items()}
    rows = trainer.run(progress=False)[1::2]
    assert [row["val_loss"] for row in rows] == [1.0, 2.0, 3.0]
    averages = [3.0, 1.5, 2.0] if average else [None] * 3
    assert [row.get("val_loss_average") for row in rows] == averages
    best, last = (load_weights(tmp_path / f"run/{name}.safetensors") for name in ("best", "last"))
    assert (best.record["steps"], best.record["best_val_loss"]) == (step, loss)
    assert (last.record["steps"], last.record["best_val_loss"]) == (6, loss)
    torch.testing.assert_close(dict(best.net.state_dict()), kept, rtol=0, atol=0)


def test_training_without_validation_pairs(pairs, encoder, tmp_path):
    log = Trainer(CONFIG, encoder, pairs, [], tmp_path).run(until=3, progress=False)
    assert math.isnan(log[2]["val_loss"])
    assert load_weights(tmp_path / "last.safetensors").record["best_val_loss"] is None
    assert not (tmp_path / "best.safetensors").exists()


def test_nothing_to_do(build, tmp_path):
    trainer = build()
    assert trainer.run(until=0, progress=False) == [] and trainer.step == 0
    assert not list((tmp_path / "run").iterdir())
    trainer.run(until=2, progress=False)
    assert len(trainer.run(until=1, progress=False)) == 2 and trainer.step == 2


def test_r46_no_pairs(build, encoder, tmp_path, monkeypatch):
    """Nor a batch that is larger than the set, or that the processes cannot share."""
    with pytest.raises(TrainingError, match=r"no training pairs.*data status"):
        Trainer(CONFIG, encoder, [], [], tmp_path / "run")
    with pytest.raises(TrainingError, match="a batch of 4 is larger than the 3 training pairs"):
        build(batch=4)
    assert not (tmp_path / "run").exists()
    trainer = build()
    monkeypatch.setattr(trainer, "processes", type("Three", (), {"num_processes": 3}))
    with pytest.raises(TrainingError, match="a batch of 2 cannot be shared by 3 processes"):
        trainer._check_batch(3)


def norm_statistics(net):
    return [value.clone() for key, value in net.state_dict().items() if "running" in key]


def test_norm_keeps_and_uses_its_statistics_after_its_share_of_the_steps(build):
    trainer = build(freeze_norm=0.5)
    seen = [norm_statistics(trainer.net)]
    for step in range(8):
        trainer.run(until=step + 1, progress=False)
        seen.append(norm_statistics(trainer.net))
    changed = [not all(map(torch.equal, *both)) for both in itertools.pairwise(seen)]
    assert changed == [True] * 4 + [False] * 4
    net = trainer.net.train()
    images = torch.rand(2, 1, 16, 16), torch.rand(2, 3, 16, 16), torch.rand(2, 6), torch.rand(2, 6)
    learning = net(*images)
    training.freeze_norm(net)
    frozen = net(*images)  # as in use
    assert torch.equal(frozen, net.eval()(*images)) and not torch.allclose(frozen, learning)


def test_bf16_computes_nearly_the_same_and_leaves_weights_in_float32(build):
    values = {}
    for precision in ("fp32", "bf16"):
        trainer = build(precision, precision=precision)
        values[precision] = trainer.run(until=4, progress=False)[-1]["loss"]
        assert {p.dtype for p in trainer.net.parameters()} == {torch.float32}
    assert values["bf16"] != values["fp32"]
    assert values["bf16"] == pytest.approx(values["fp32"], rel=0.03)


def test_a_training_starts_from_given_weights_and_says_so(whole, pairs, encoder, tmp_path):
    init = load_weights(whole / "last.safetensors", encoder)
    trainer = Trainer(CONFIG, encoder, pairs[:3], [], tmp_path, init=init)
    for key, value in trainer.net.state_dict().items():
        assert torch.equal(value, init.net.state_dict()[key])
    trainer.run(until=1, progress=False)
    record = load_weights(tmp_path / "last.safetensors").record
    assert record["init"] == {"sha256": init.sha256, "record": init.record}
    with pytest.raises(TrainingError, match="init"):  # the checkpoint began elsewhere
        Trainer(CONFIG, encoder, pairs[:3], [], tmp_path)
    wide = dataclasses.replace(CONFIG, network=dataclasses.replace(CONFIG.network, width=16))
    with pytest.raises(WeightsError, match=r"last.safetensors.*width=8.*width=16"):
        Trainer(wide, encoder, pairs[:3], [], tmp_path, init=init)


def test_two_processes_train_as_one(pairs, encoder, tmp_path):
    """Under torchrun on gloo: the same batch, the same loss, equal weights in both.

    Stopped and resumed on the way, which must find the checkpoint of a process on ``cpu:0``.
    """
    program = tmp_path / "program.py"
    program.write_text(f"""
import sys
sys.path[:0] = {list(map(str, Path(__file__).parents[1:3]))!r}
from pathlib import Path
import dataclasses, torch, trainings
from fusionlib.datasets import Pair
from fusionlib.training import Trainer
root, out = map(Path, sys.argv[1:])
pairs = [Pair("Textures", str(i), root / f"ir/{{i}}.png", root / f"vi/{{i}}.png") for i in range(5)]
config = dataclasses.replace(trainings.CONFIG, average=0.5, freeze_norm=0.0)
given = config, trainings.build_encoder(), pairs[:3], pairs[3:], out / "run"
Trainer(*given).run(until=4, progress=False)
trainer = Trainer(*given, resume=True)
assert trainer.step == 4
trainer.run(progress=False)
assert trainer.processes.num_processes == 2
rank = trainer.processes.process_index
torch.save([dict(trainer.kept.state_dict()), trainer.log], out / f"{{rank}}.pt")
""")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    run = subprocess.run(
        [*launch, str(program), str(pairs[0].ir.parent.parent), str(tmp_path)],
        capture_output=True, text=True, timeout=500, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    (net, log), (other, other_log) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)
    )
    assert all(torch.equal(net[key], other[key]) for key in net)
    assert log[-1]["loss"] == other_log[-1]["loss"]
    # on a CPU each process has its own BatchNorm statistics, so they are frozen here
    config = dataclasses.replace(CONFIG, average=0.5, freeze_norm=0.0)
    alone = Trainer(config, encoder, pairs[:3], pairs[3:], tmp_path / "alone")
    for row, one in zip(log, alone.run(progress=False), strict=True):
        assert row["loss"] == pytest.approx(one["loss"], rel=0.02)
    record = load_weights(tmp_path / "run" / "last.safetensors", encoder).record
    assert record["processes"] == 2 and alone.record()["processes"] == 1
