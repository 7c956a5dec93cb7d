"""Stopped, killed, spoilt or locked out: how a training goes on (rows 30, 38 to 45)."""

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

import pytest
import torch
from textures import write_pairs
from trainings import CONFIG, assert_same_training, build_encoder

from fusionlib import files, training
from fusionlib.errors import TrainingError
from fusionlib.losses import Losses, fusion_loss
from fusionlib.training import Trainer, batch_indices
from fusionlib.weights import load_weights

pytestmark = pytest.mark.long

SLOW = pytest.mark.slow


class Killed(BaseException):
    """Stands for the end of the process."""


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

    def until_killed(self, *batch):
        if self.step == killed:
            raise Killed
        return step(self, *batch)

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

    def meet_another(self, *batch):
        monkeypatch.setattr(Trainer, "_step", step)
        growing.write_bytes(b"partial")
        with pytest.raises(TrainingError) as error:
            build().run(progress=False)
        refused.append(str(error.value))
        assert growing.exists()
        return step(self, *batch)

    build().run(until=3, progress=False)
    monkeypatch.setattr(Trainer, "_step", meet_another)
    build().run(progress=False)
    assert len(refused) == 1 and f"{folder}: process {os.getpid()} is at work here" in refused[0]
    assert_same_training(folder, whole)


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
@pytest.mark.parametrize("unread", [1, 3])
def test_r41_training_stops_at_a_loss_that_is_not_finite(
    build, whole, tmp_path, monkeypatch, pairs, how, terms, unread
):
    folder = tmp_path / "run"
    spoil(monkeypatch, 4, how)
    monkeypatch.setattr(training, "UNREAD", {"cpu": unread})  # of a GPU, several
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


def test_r45_ctrl_c_finishes_the_step_and_writes_a_checkpoint(build, whole, tmp_path, monkeypatch):
    step = Trainer._step

    def pressed(self, *batch):
        if self.step == 4:
            signal.raise_signal(signal.SIGINT)
        return step(self, *batch)

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
    def pressed_twice(self, *batch):
        noting = signal.getsignal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        while signal.getsignal(signal.SIGINT) is noting:  # Python handles it when it comes to it
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)
        time.sleep(10)
        pytest.fail("went on")

    monkeypatch.setattr(Trainer, "_step", pressed_twice)
    trainer = build()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.run(progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert trainer.step == 0


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_r38_an_average_is_resumed_exactly(build, tmp_path, cut):
    build("whole", average=0.9).run(progress=False)
    build("parts", average=0.9).run(until=cut, progress=False)
    build("parts", average=0.9).run(progress=False)
    assert_same_training(tmp_path / "whole", tmp_path / "parts")
