"""The training recipe: rows 38 to 41, 44 and 46 of the fault list, and what a step sees."""

import csv
import dataclasses
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from textures import write_pairs
from torch import nn

from fusionlib import files, training
from fusionlib.encoder import ImageEncoder
from fusionlib.errors import TrainingError, WeightsError
from fusionlib.losses import Losses, fusion_loss
from fusionlib.network import NetworkConfig
from fusionlib.training import (
    Images,
    TrainConfig,
    Trainer,
    batch_indices,
    forward_loss,
    learning_rate,
    write_log,
)
from fusionlib.weights import load_weights

CONFIG = TrainConfig(
    network=NetworkConfig(width=8, blocks=1, heads=2, reduction=2),
    steps=8,
    batch=2,
    crop=16,
    validate_every=3,
    seed=5,
)


SLOW = pytest.mark.slow


class Killed(BaseException):
    """Stands for the end of the process."""


def build_encoder(gain=0.5):
    """A small frozen network with weights of no generator."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 6))
    values = torch.arange(72.0).mul(0.7).sin().view(6, 12)
    network[2].load_state_dict({"weight": gain * values, "bias": torch.zeros(6)})
    half = (0.5,) * 3
    return ImageEncoder(network, name="tiny", title="tiny", size=(8, 8), mean=half, std=half)


@pytest.fixture(scope="module")
def encoder():
    with torch.random.fork_rng():
        return build_encoder()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"), 5)


@pytest.fixture
def build(pairs, encoder, tmp_path):
    """Trainer on three pairs, validated on two."""

    def trainer(folder="run", **changed):
        config = dataclasses.replace(CONFIG, **changed)
        return Trainer(config, encoder, pairs[:3], pairs[3:], tmp_path / folder)

    return trainer


@pytest.fixture(scope="module")
def whole(pairs, encoder, tmp_path_factory):
    """Folder of a training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    Trainer(CONFIG, encoder, pairs[:3], pairs[3:], folder).run(progress=False)
    return folder


def flat(value, key=""):
    """Nested dictionaries and lists as one dictionary of leaves."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return dict(
            itertools.chain(*(flat(v, f"{key}/{k}").items() for k, v in items)), **{key: len(value)}
        )
    return {key: value}


def assert_same_training(folder, other):
    """Weights, optimizer, log and record, bit by bit."""
    for name in ("log.csv", "last.safetensors", "best.safetensors"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    one, two = (flat(torch.load(f / "checkpoint.pt", weights_only=True)) for f in (folder, other))
    assert one.pop("/seconds") > 0 and two.pop("/seconds") > 0
    assert one.keys() == two.keys()
    assert sum(isinstance(value, torch.Tensor) for value in one.values()) > 200
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, two[key]) and value.dtype == two[key].dtype, key
        else:
            assert value == two[key] or (value != value and two[key] != two[key]), key


# --- Schedule -------------------------------------------------------------------------------------


def test_the_optimizer_gets_these_rates(build):
    trainer = build()
    for step in range(3):
        trainer.run(until=step + 1, progress=False)
        rate = learning_rate(step, 8, CONFIG)
        assert [g["lr"] for g in trainer.optimizer.param_groups] == [rate]
        assert trainer.log[step]["lr"] == rate
    assert type(trainer.optimizer) is torch.optim.Adam


# --- Crops ----------------------------------------------------------------------------------------


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


# --- A step ---------------------------------------------------------------------------------------


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


# --- Validation, log and files --------------------------------------------------------------------


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


def test_log_keeps_every_digit(tmp_path):
    write_log(tmp_path / "log.csv", [{"step": 0, "lr": 0.1 + 0.2, "loss": 1 / 3}])
    with (tmp_path / "log.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["lr"]) == 0.1 + 0.2 and float(row["loss"]) == 1 / 3 and not row["val_loss"]


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


# --- r38, r39: killed at any moment ---------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 3, 5, 8])
def test_r38_stopped_and_resumed_is_bit_identical(build, whole, tmp_path, stop):
    build().run(until=stop, progress=False)
    again = build()
    assert again.step == stop
    again.run(progress=False)
    assert_same_training(tmp_path / "run", whole)


@pytest.mark.parametrize("killed", [1, 4, 7])
def test_r38_killed_between_checkpoints_is_bit_identical(
    build, whole, tmp_path, monkeypatch, killed
):
    step = Trainer._step

    def until_killed(self):
        if self.step == killed:
            raise Killed
        return step(self)

    monkeypatch.setattr(Trainer, "_step", until_killed)
    with pytest.raises(Killed):
        build().run(progress=False)
    monkeypatch.undo()
    again = build()
    assert again.step == killed // 3 * 3  # the last checkpoint
    again.run(progress=False)
    assert_same_training(tmp_path / "run", whole)


@pytest.mark.parametrize("write", range(15))
def test_r39_killed_while_writing_is_bit_identical(build, whole, tmp_path, monkeypatch, write):
    """Before any one of the first two rounds of files comes into its place, and after them."""
    replace, count, written = os.replace, itertools.count(), []

    def until_killed(source, target):
        if next(count) == write:
            partial = Path(source).read_bytes()[:-5]  # what a real kill leaves behind
            Path(f"{target}.99999.tmp").write_bytes(partial)
            raise Killed
        replace(source, target)
        written.append(Path(target).name)

    monkeypatch.setattr(files.os, "replace", until_killed)
    with pytest.raises(Killed):
        build().run(progress=False)
    monkeypatch.undo()
    again = build()
    assert again.step == 3 * written.count("checkpoint.pt")
    again.run(progress=False)
    assert_same_training(tmp_path / "run", whole)
    assert not list((tmp_path / "run").glob("*.tmp"))


def test_r39_leftovers_are_removed_at_the_next_start_and_other_files_kept(build, whole, tmp_path):
    folder = tmp_path / "run"
    build().run(until=3, progress=False)
    (folder / "checkpoint.pt.4711.tmp").write_bytes(b"partial")
    (folder / "notes.tmp").write_bytes(b"mine")
    build().run(progress=False)
    assert_same_training(folder, whole)
    assert {p.name for p in folder.glob("*.tmp")} == {"notes.tmp"}


def test_a_second_training_in_a_folder_is_refused_and_harms_nothing(
    build, whole, tmp_path, monkeypatch
):
    folder, step, refused = tmp_path / "run", Trainer._step, []
    growing = folder / "checkpoint.pt.4711.tmp"  # the first one is writing it

    def meet_another(self):
        monkeypatch.setattr(Trainer, "_step", step)
        growing.write_bytes(b"partial")
        with pytest.raises(TrainingError) as error:
            build().run(progress=False)
        refused.append(str(error.value))
        assert growing.exists()
        return step(self)

    build().run(until=3, progress=False)
    monkeypatch.setattr(Trainer, "_step", meet_another)
    build().run(progress=False)
    assert len(refused) == 1 and f"{folder}: process {os.getpid()} is at work here" in refused[0]
    assert_same_training(folder, whole)


def test_a_training_is_locked_out_by_another_process_until_that_is_killed(build, tmp_path):
    program = f"""
import sys, time
from pathlib import Path
from fusionlib.files import lock
with lock(Path({str(tmp_path / "run" / ".training.lock")!r})):
    print("locked", flush=True)
    time.sleep(600)
"""
    trainer = build()
    command = [sys.executable, "-c", program]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout.readline() == "locked\n"
            with pytest.raises(TrainingError, match=r"run: process [0-9]+ is at work here"):
                trainer.run(progress=False)
        finally:
            process.kill()
    assert len(trainer.run(until=1, progress=False)) == 1


def test_a_folder_that_cannot_be_locked_is_named(build, tmp_path):
    trainer = build()
    (tmp_path / "run" / ".training.lock").mkdir()
    with pytest.raises(TrainingError, match=r"run.*cannot be locked"):
        trainer.run(progress=False)


def test_r38_kill_9_of_a_real_process(pairs, whole, tmp_path, encoder):
    program = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_training
from fusionlib import files
from fusionlib.datasets import Pair
replace = os.replace
def until_killed(source, target):
    if Path(target).name == "checkpoint.pt" and Path(target).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
files.os.replace = until_killed
root = Path({str(pairs[0].ir.parent.parent)!r})
pairs = [Pair("Textures", str(i), root / f"ir/{{i}}.png", root / f"vi/{{i}}.png") for i in range(5)]
trainer = test_training.Trainer(
    test_training.CONFIG, test_training.build_encoder(), pairs[:3], pairs[3:], sys.argv[1]
)
test_training.torch.set_num_threads({torch.get_num_threads()})
trainer.run(progress=False)
"""
    folder = tmp_path / "run"
    run = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert list(folder.glob("checkpoint.pt.*.tmp"))  # the second checkpoint, never in place
    again = Trainer(CONFIG, encoder, pairs[:3], pairs[3:], folder)
    assert again.step == 3
    again.run(progress=False)
    assert_same_training(folder, whole)
    assert not list(folder.glob("*.tmp"))


def train_command(out, preset, steps, images):
    command = [sys.executable, "-m", "fusionlib", "train", "--preset", preset, "--out", str(out)]
    return [*command, "--steps", str(steps), "--data-root", str(images)]


@pytest.mark.parametrize(
    ("preset", "steps", "side"), [("quick", 12, 96), pytest.param("cpu", 300, 128, marks=SLOW)]
)
def test_r38_train_command_killed_at_a_random_step_is_bit_identical(tmp_path, preset, steps, side):
    """Twice the same command, the second killed as soon as it has some checkpoint."""
    write_pairs(tmp_path / "images" / "RoadScene", 16, side, side + 8)
    whole, run = tmp_path / "whole", tmp_path / "run"
    environment = os.environ | {"TQDM_DISABLE": "1"}
    command = train_command(whole, preset, steps, tmp_path / "images")
    subprocess.run(command, check=True, env=environment, timeout=1200)
    command = train_command(run, preset, steps, tmp_path / "images")
    with subprocess.Popen(command, env=environment) as process:
        while not (run / "checkpoint.pt").exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.5))
        process.kill()
    assert process.returncode == -signal.SIGKILL
    subprocess.run(command, check=True, env=environment, timeout=1200)
    assert_same_training(run, whole)


def test_resume_of_a_finished_training_does_nothing(build, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()}
    trainer = build()
    assert len(trainer.run(progress=False)) == 8
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()} == before


# --- r41 ------------------------------------------------------------------------------------------


def spoil(monkeypatch, at, how):
    """Replaces the loss of one step."""
    count = itertools.count()

    def spoiled(fused, *args, **kwargs):
        found = fusion_loss(fused, *args, **kwargs)
        return how(fused, found) if fused.requires_grad and next(count) == at else found

    monkeypatch.setattr(training, "fusion_loss", spoiled)


def infinite_slope(fused, found):
    mean = fused.mean()
    return found._replace(loss=found.loss + (mean - mean.detach()).sqrt())


@pytest.mark.parametrize(
    ("how", "terms"),
    [
        (lambda _, x: Losses(x.loss * math.nan, x.loss_int, x.loss_grad * math.nan), "loss_grad"),
        (lambda _, x: Losses(x.loss + math.inf, x.loss_int + math.inf, x.loss_grad), "loss_int"),
        (infinite_slope, "gradient"),
    ],
    ids=["nan", "inf", "gradient"],
)
def test_r41_training_stops_at_a_loss_that_is_not_finite(
    build, whole, tmp_path, monkeypatch, pairs, how, terms
):
    folder = tmp_path / "run"
    spoil(monkeypatch, 4, how)
    trainer = build()
    trainer.run(until=3, progress=False)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TrainingError) as caught:
        trainer.run(progress=False)
    message = str(caught.value)
    others = {"loss_int", "loss_grad", "gradient"} - {terms}
    assert message.startswith("step 4: ") and terms in message and "not finite" in message
    told = message.split(" not finite")[0]
    # a loss that is not finite has no finite gradient either
    assert not others - {"gradient"} & set(told.removeprefix("step 4: ").split(", "))
    indices = batch_indices(4, 3, CONFIG.batch, CONFIG.seed)
    assert all(str(pairs[i].ir) in message for i in indices)
    report = json.loads((folder / "nan_report.json").read_text(encoding="utf-8"))
    assert report["step"] == 4 and terms in report["not_finite"]
    assert report["infrared_images"] == [str(pairs[i].ir) for i in indices]
    (folder / "nan_report.json").unlink()
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    monkeypatch.undo()
    build().run(progress=False)  # from the checkpoint, without the fault
    assert_same_training(folder, whole)


# --- r44, r46 -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seed": 6}, "seed was 5, is 6"),
        ({"lr_peak": 2e-3}, "lr_peak was 0.001, is 0.002"),
        ({"steps": 9}, "steps was 8, is 9"),
        ({"network": dataclasses.replace(CONFIG.network, use_cii=False)}, "use_cii was True"),
    ],
    ids=str,
)
def test_r44_resume_with_another_recipe_is_refused(build, whole, tmp_path, changed, told):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TrainingError) as caught:
        build(**changed)
    message = str(caught.value)
    assert str(folder / "checkpoint.pt") in message and told in message
    assert "another folder" in message
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_r44_resume_with_other_data_or_encoder_is_refused(whole, pairs, encoder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    with pytest.raises(TrainingError, match=r"training images was '3 pairs, .*, is '2 pairs, "):
        Trainer(CONFIG, encoder, pairs[:2], pairs[3:], folder)
    with pytest.raises(TrainingError, match=r"\(training images was '3 pairs, .*, is '3 pairs, "):
        Trainer(CONFIG, encoder, pairs[2::-1], pairs[3:], folder)
    with pytest.raises(TrainingError, match=r"validation images was '2 pairs, .*, is '1 pairs, "):
        Trainer(CONFIG, encoder, pairs[:3], pairs[3:4], folder)
    with pytest.raises(TrainingError, match=r"validation images was '2 pairs, .*, is 'no pairs'"):
        Trainer(CONFIG, encoder, pairs[:3], [], folder)
    with pytest.raises(TrainingError, match=r"\(encoder was "):
        Trainer(CONFIG, build_encoder(gain=0.6), pairs[:3], pairs[3:], folder)
    assert Trainer(CONFIG, encoder, pairs[:3], pairs[3:], folder).step == 8


@pytest.mark.parametrize("content", [b"", b"no checkpoint", "cut", "list", "other"])
def test_damaged_checkpoint_is_refused(build, whole, tmp_path, content):
    path = tmp_path / "run" / "checkpoint.pt"
    path.parent.mkdir()
    if content == "cut":
        path.write_bytes((whole / "checkpoint.pt").read_bytes()[:-100])
    elif content == "list":
        torch.save([1, 2], path)
    elif content == "other":
        torch.save({"identity": None}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: not a checkpoint of this project"):
        build()


def test_r30_checkpoint_that_is_a_malicious_pickle_is_not_executed(build, tmp_path):
    marker = tmp_path / "executed"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (marker,))

    path = tmp_path / "run" / "checkpoint.pt"
    path.parent.mkdir()
    torch.save({"identity": Payload()}, path)
    with pytest.raises(TrainingError, match="not a checkpoint of this project"):
        build()
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the payload works


def test_r44_resume_with_other_code_or_grey_levels_is_refused(
    build, whole, pairs, encoder, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    monkeypatch.setattr(training, "code_fingerprint", lambda: "of another version")
    with pytest.raises(TrainingError, match=r"\(code was .*, is 'of another version'\)"):
        build()
    monkeypatch.undo()
    others = write_pairs(tmp_path / "others", 3, seed=1)  # same names
    with pytest.raises(TrainingError, match=r"\(training images was "):
        Trainer(CONFIG, encoder, others, pairs[3:], folder)


def test_r44_a_forced_resume_goes_on_and_is_recorded(whole, pairs, encoder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    longer = dataclasses.replace(CONFIG, steps=9)
    trainer = Trainer(longer, encoder, pairs[:3], pairs[3:], folder, resume="force")
    assert trainer.step == 8
    trainer.run(progress=False)
    again = Trainer(longer, encoder, pairs[:3], pairs[3:], folder)
    forced = load_weights(folder / "last.safetensors", encoder).record["forced"]
    assert forced == again.record()["forced"] == ["steps was 8, is 9"]
    assert load_weights(whole / "last.safetensors", encoder).record["forced"] == []


# --- r45 ------------------------------------------------------------------------------------------


def test_r45_ctrl_c_finishes_the_step_and_writes_a_checkpoint(build, whole, tmp_path, monkeypatch):
    step = Trainer._step

    def pressed(self):
        if self.step == 4:
            signal.raise_signal(signal.SIGINT)
        return step(self)

    monkeypatch.setattr(Trainer, "_step", pressed)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build().run(progress=False)
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    again = build()
    assert again.step == 5
    again.run(progress=False)
    assert_same_training(tmp_path / "run", whole)


def test_r45_a_second_ctrl_c_interrupts_at_once(build, monkeypatch):
    def pressed_twice(self):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("went on")

    monkeypatch.setattr(Trainer, "_step", pressed_twice)
    trainer = build()
    with pytest.raises(KeyboardInterrupt):
        trainer.run(progress=False)
    assert trainer.step == 0


def test_r46_no_pairs(encoder, tmp_path):
    with pytest.raises(TrainingError, match=r"no training pairs.*data status"):
        Trainer(CONFIG, encoder, [], [], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_r46_batch_larger_than_the_set(build, tmp_path):
    with pytest.raises(TrainingError, match="a batch of 4 is larger than the 3 training pairs"):
        build(batch=4)
    assert not (tmp_path / "run").exists()
    assert build(batch=3).run(until=1, progress=False)


# --- BatchNorm and precision ----------------------------------------------------------------------


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


# --- Several processes ----------------------------------------------------------------------------


def test_two_processes_train_as_one(pairs, encoder, tmp_path):
    """Under torchrun on gloo: the same batch, the same loss, equal weights in both.

    Stopped and resumed on the way, which must find the checkpoint of a process on ``cpu:0``.
    """
    program = tmp_path / "program.py"
    program.write_text(f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from pathlib import Path
import torch
import test_training
from fusionlib.datasets import Pair
root, out = map(Path, sys.argv[1:])
pairs = [Pair("Textures", str(i), root / f"ir/{{i}}.png", root / f"vi/{{i}}.png") for i in range(5)]
config = test_training.dataclasses.replace(test_training.CONFIG, average=0.5, freeze_norm=0.0)
given = config, test_training.build_encoder(), pairs[:3], pairs[3:], out / "run"
test_training.Trainer(*given).run(until=4, progress=False)
trainer = test_training.Trainer(*given, resume=True)
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


# --- Average of the weights, and weights to start from --------------------------------------------


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


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_r38_an_average_is_resumed_exactly(build, tmp_path, cut):
    build("whole", average=0.9).run(progress=False)
    build("parts", average=0.9).run(until=cut, progress=False)
    build("parts", average=0.9).run(progress=False)
    assert_same_training(tmp_path / "whole", tmp_path / "parts")


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
