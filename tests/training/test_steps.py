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
from fusionlib.training import Images, Trainer, forward_loss, learning_rate
from fusionlib.weights import load_weights

pytestmark = pytest.mark.long


def test_the_optimizer_gets_these_rates(build):
    trainer = build()
    for step in range(3):
        trainer.run(until=step + 1, progress=False)
        rate = learning_rate(step, 8, CONFIG)
        assert [g["lr"] for g in trainer.optimizer.param_groups] == [rate]
        assert trainer.log[step]["lr"] == rate
    assert type(trainer.optimizer) is torch.optim.Adam


def test_crops_are_reproducible_and_differ_from_step_to_step(build, monkeypatch):
    seen = []
    crops = Images.crops

    def watched(self, *args):
        seen.append(crops(self, *args))
        return seen[-1]

    monkeypatch.setattr(Images, "crops", watched)
    for folder in ("a", "b"):
        build(folder, validate_every=100).run(until=3, progress=False)
    first, second = seen[:3], seen[3:]  # three steps each
    for one, two in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(first[0][0], first[1][0])


def test_forward_loss_uses_the_ranges_of_network_and_losses(encoder):
    seen = {}

    def net(ir, vi, c_ir, c_vi):
        seen.update(ir=ir, vi=vi, c_ir=c_ir, c_vi=c_vi)
        return ir.roll(1, dims=-1)

    generator = torch.Generator().manual_seed(0)
    ir, vi = torch.rand(2, 4, 16, 16, generator=generator).split((1, 3), dim=1)
    config = dataclasses.replace(CONFIG, loss_weight=0.7, target="magnitude")
    found = forward_loss(net, encoder, ir, vi, config)
    torch.testing.assert_close(seen["ir"], 2 * ir - 1)
    torch.testing.assert_close(seen["vi"], 2 * vi - 1)
    torch.testing.assert_close(seen["c_ir"], encoder(ir))
    torch.testing.assert_close(seen["c_vi"], encoder(vi))
    y = 0.299 * vi[:, :1] + 0.587 * vi[:, 1:2] + 0.114 * vi[:, 2:]
    expected = fusion_loss(ir.roll(1, dims=-1), ir, y, weight=0.7, target="magnitude")
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two)


def test_loss_falls(build):
    log = build(steps=40, lr_peak=1e-2, validate_every=100).run(progress=False)
    losses = [row["loss"] for row in log]
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_weights_move_and_the_encoder_does_not(build, encoder):
    trainer = build()
    before = {key: value.clone() for key, value in trainer.net.state_dict().items()}
    frozen = {key: value.clone() for key, value in encoder.state_dict().items()}
    trainer.run(until=1, progress=False)
    moved = {k for k, v in trainer.net.named_parameters() if not torch.equal(v, before[k])}
    assert moved == {key for key, _ in trainer.net.named_parameters()}
    assert all(torch.equal(value, frozen[key]) for key, value in encoder.state_dict().items())
    assert not encoder.training and trainer.net.config.embed == encoder.embed == 6


def test_random_numbers_of_the_caller_are_untouched(build):
    torch.manual_seed(11)
    np.random.seed(11)
    before = torch.get_rng_state(), np.random.get_state()
    build().run(until=3, progress=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    after = np.random.get_state()
    assert np.array_equal(after[1], before[1][1]) and after[2] == before[1][2]


def test_random_numbers_of_the_caller_do_not_matter(build, whole, tmp_path):
    torch.manual_seed(123)
    trainer = build()
    torch.rand(7)
    trainer.run(progress=False)
    assert_same_training(tmp_path / "run", whole)


def test_seed_matters(build):
    logs = [build(f"{seed}", seed=seed).run(until=1, progress=False) for seed in (5, 6)]
    assert logs[0][0]["loss"] != logs[1][0]["loss"]


def test_validation_sees_the_same_crops_each_time(build, monkeypatch):
    trainer = build()
    seen = []
    forward = ImageEncoder.forward
    monkeypatch.setattr(
        ImageEncoder, "forward", lambda self, x: (seen.append(x), forward(self, x))[1]
    )
    first = trainer.validate(trainer.net)
    assert trainer.validate(trainer.net) == first
    trainer.run(until=2, progress=False)
    seen.clear()
    before = {key: value.clone() for key, value in trainer.net.state_dict().items()}
    assert trainer.validate(trainer.net) != first  # the network is another one
    trainer.validate(trainer.net)
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


def test_log_has_a_row_for_each_step(whole):
    with (whole / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["step", "lr", "loss", "loss_int", "loss_grad", "val_loss", "val_loss_average"]
    assert list(rows[0]) == columns
    assert [int(row["step"]) for row in rows] == list(range(8))
    assert [bool(row["val_loss"]) for row in rows] == [i in (2, 5, 7) for i in range(8)]
    for row in rows:
        expected = float(row["loss_grad"]) + 0.2 * float(row["loss_int"])
        assert float(row["loss"]) == pytest.approx(expected, rel=1e-5)
    assert b"\r" not in (whole / "log.csv").read_bytes()


def test_weights_of_a_training_load_and_say_how_they_came_about(whole, encoder):
    last, best = (load_weights(whole / f"{name}.safetensors", encoder) for name in ("last", "best"))
    with (whole / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    validated = {int(r["step"]) + 1: float(r["val_loss"]) for r in rows if r["val_loss"]}
    best_step = min(validated, key=validated.get)
    assert best.record["steps"] == best_step
    assert best.record["best_val_loss"] == validated[best_step] == last.record["best_val_loss"]
    assert last.record["steps"] == last.record["of_steps"] == 8
    assert last.record["train_pairs"] == {"Textures": 3} and last.record["val_pairs"] == 2
    mean = sum(float(row["loss"]) for row in rows) / 8
    assert last.record["mean_loss_of_last_100_steps"] == pytest.approx(mean)
    assert last.record["config"]["network"]["embed"] == 6 and last.record["config"]["seed"] == 5
    state = torch.load(whole / "checkpoint.pt", weights_only=True)["net"]
    assert all(torch.equal(v, state[k]) for k, v in last.net.state_dict().items())


def test_best_weights_are_those_of_the_lowest_validation_loss(build, monkeypatch, tmp_path):
    losses = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(Trainer, "validate", lambda self, net: next(losses))
    build(steps=6, validate_every=2).run(progress=False)
    best = load_weights(tmp_path / "run" / "best.safetensors")
    last = load_weights(tmp_path / "run" / "last.safetensors")
    assert (best.record["steps"], best.record["best_val_loss"]) == (4, 1.0)
    assert (last.record["steps"], last.record["best_val_loss"]) == (6, 1.0)


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


def test_r46_no_pairs(encoder, tmp_path):
    with pytest.raises(TrainingError, match=r"no training pairs.*data status"):
        Trainer(CONFIG, encoder, [], [], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_r46_batch_larger_than_the_set(build, tmp_path):
    with pytest.raises(TrainingError, match="a batch of 4 is larger than the 3 training pairs"):
        build(batch=4)
    assert not (tmp_path / "run").exists()
    assert build(batch=3).run(until=1, progress=False)


def norm_statistics(net):
    return [value.clone() for key, value in net.state_dict().items() if "running" in key]


@pytest.mark.parametrize(("share", "learns"), [(0.0, 0), (0.5, 4), (1.0, 8)])
def test_norm_keeps_its_statistics_after_its_share_of_the_steps(build, share, learns):
    trainer = build(freeze_norm=share)
    seen = [norm_statistics(trainer.net)]
    for step in range(8):
        trainer.run(until=step + 1, progress=False)
        seen.append(norm_statistics(trainer.net))
    changed = [
        any(not torch.equal(a, b) for a, b in zip(*both, strict=True))
        for both in itertools.pairwise(seen)
    ]
    assert changed == [True] * learns + [False] * (8 - learns)


def test_a_frozen_norm_makes_training_and_use_the_same_function(build):
    net = build().net.train()
    images = torch.rand(2, 1, 16, 16), torch.rand(2, 3, 16, 16), torch.rand(2, 6), torch.rand(2, 6)
    torch.nn.init.normal_(net.decoder[2].weight, std=0.1)
    learning = net(*images)
    training.freeze_norm(net)
    frozen = net(*images)
    assert torch.equal(frozen, net.eval()(*images)) and not torch.allclose(frozen, learning)


def test_bf16_computes_nearly_the_same_and_leaves_weights_in_float32(build, encoder):
    values = {}
    for precision in ("fp32", "bf16"):
        trainer = build(precision, precision=precision)
        values[precision] = trainer.run(until=4, progress=False)[-1]["loss"]
        assert {p.dtype for p in trainer.net.parameters()} == {torch.float32}
    assert values["bf16"] != values["fp32"]
    assert values["bf16"] == pytest.approx(values["fp32"], rel=0.03)


def test_the_kept_weights_are_the_moving_average(build):
    trainer = build(average=0.75, steps=2, validate_every=100)
    start = {k: v.clone() for k, v in trainer.net.state_dict().items() if v.is_floating_point()}
    trainer.run(until=1, progress=False)
    first = {key: trainer.net.state_dict()[key].clone() for key in start}
    trainer.run(progress=False)
    second, kept = trainer.net.state_dict(), trainer.kept.state_dict()
    for key, value in start.items():
        once = 0.75 * value + 0.25 * first[key]
        torch.testing.assert_close(kept[key], 0.75 * once + 0.25 * second[key])
    assert not torch.equal(kept["ire.0.0.weight"], second["ire.0.0.weight"])


def test_the_average_is_validated_beside_the_weights_and_saved(build, monkeypatch, tmp_path):
    trainer = build(average=0.5, steps=4, validate_every=2)
    losses = {id(trainer.net): iter([1.0, 2.0]), id(trainer.kept): iter([4.0, 3.0])}
    monkeypatch.setattr(Trainer, "validate", lambda self, net: next(losses[id(net)]))
    log = trainer.run(progress=False)
    assert [row.get("val_loss") for row in log] == [None, 1.0, None, 2.0]
    assert [row.get("val_loss_average") for row in log] == [None, 4.0, None, 3.0]
    best = load_weights(tmp_path / "run" / "best.safetensors")
    assert (best.record["steps"], best.record["best_val_loss"]) == (4, 3.0)  # of the average
    for key, value in trainer.kept.state_dict().items():
        assert torch.equal(best.net.state_dict()[key], value)


def test_without_average_the_weights_themselves_are_kept(build):
    trainer = build()
    assert trainer.kept is trainer.net
    assert "val_loss_average" not in trainer.run(until=3, progress=False)[2]


def test_a_training_starts_from_given_weights_and_says_so(build, whole, pairs, encoder, tmp_path):
    init = load_weights(whole / "last.safetensors", encoder)
    trainer = Trainer(CONFIG, encoder, pairs[:3], [], tmp_path, init=init)
    for key, value in trainer.net.state_dict().items():
        assert torch.equal(value, init.net.state_dict()[key])
    trainer.run(until=1, progress=False)
    record = load_weights(tmp_path / "last.safetensors").record
    assert record["init"] == {"sha256": init.sha256, "record": init.record}
    with pytest.raises(TrainingError, match="init"):  # the checkpoint began elsewhere
        Trainer(CONFIG, encoder, pairs[:3], [], tmp_path)


def test_weights_of_another_network_start_nothing(whole, pairs, encoder, tmp_path):
    init = load_weights(whole / "last.safetensors", encoder)
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


def test_a_batch_that_cannot_be_shared_is_refused(build, monkeypatch):
    trainer = build()
    monkeypatch.setattr(trainer, "processes", type("Three", (), {"num_processes": 3}))
    with pytest.raises(TrainingError, match="a batch of 2 cannot be shared by 3 processes"):
        trainer._check_batch(3)
