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
from fusionlib.crops import batch_indices
from fusionlib.errors import TrainingError
from fusionlib.losses import fusion_loss
from fusionlib.training import Trainer
from fusionlib.weights import load_weights

pytestmark = pytest.mark.long


class Killed(BaseException):
    """Stands for the end of the process."""


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("stop", [1, 5])
def test_r38_stopped_and_resumed_is_bit_identical(build, whole, tmp_path, stop):
    build().run(until=stop, progress=False)
    again = build()
    assert again.step == stop
    again.run(progress=False)
    assert_same_training(tmp_path / "run", whole)


@pytest.mark.parametrize("write", range(5, 13))
def test_r39_killed_while_writing_is_bit_identical(build, whole, tmp_path, monkeypatch, write):
    """Before any one of the second round of six files comes into its place, and around them."""
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


@pytest.mark.parametrize(
    ("preset", "steps", "side"),
    [("quick", 12, 48), pytest.param("cpu", 300, 128, marks=pytest.mark.slow)],
)
def test_r38_train_command_killed_at_a_random_step_is_bit_identical(tmp_path, preset, steps, side):
    """Twice the same command, the second killed as soon as it has some checkpoint."""
    write_pairs(tmp_path / "images" / "RoadScene", 16, side, side + 8)
    whole, run = tmp_path / "whole", tmp_path / "run"
    train = [sys.executable, "-m", "fusionlib", "train", "--preset", preset, "--steps", str(steps)]
    train += ["--crop", str(side), "--data-root", str(tmp_path / "images"), "--out"]
    given = {"env": os.environ | {"TQDM_DISABLE": "1"}}
    subprocess.run([*train, str(whole)], check=True, timeout=1200, **given)
    with subprocess.Popen([*train, str(run)], **given) as process:
        while not (run / "checkpoint.pt").exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.5))
        process.kill()
    assert process.returncode == -signal.SIGKILL
    subprocess.run([*train, str(run)], check=True, timeout=1200, **given)
    assert_same_training(run, whole)


def test_a_second_training_in_a_folder_is_refused_and_harms_nothing(
    build, whole, tmp_path, monkeypatch
):
    """Nor does the first one remove what is not its own (row 39)."""
    folder, step, refused = tmp_path / "run", Trainer._step, []
    growing = folder / "checkpoint.pt.4711.tmp"

    def meet_another(self, *batch):
        monkeypatch.setattr(Trainer, "_step", step)
        assert not growing.exists()  # left by a process that was killed
        growing.write_bytes(b"partial")  # the first training is writing it
        with pytest.raises(TrainingError) as error:
            build().run(progress=False)
        refused.append(str(error.value))
        growing.unlink()
        return step(self, *batch)

    build().run(until=3, progress=False)
    growing.write_bytes(b"partial")
    (folder / "notes.tmp").write_bytes(b"mine")
    monkeypatch.setattr(Trainer, "_step", meet_another)
    build().run(progress=False)
    assert len(refused) == 1 and f"{folder}: process {os.getpid()} is at work here" in refused[0]
    assert_same_training(folder, whole)
    assert (folder / "notes.tmp").exists()


def test_resume_of_a_finished_training_does_nothing(build, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()}
    assert len(build().run(progress=False)) == 8
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").iterdir()} == before


def infinite_slope(fused, found):
    mean = fused.mean()
    return found._replace(loss=found.loss + (mean - mean.detach()).sqrt())


@pytest.mark.parametrize(
    ("how", "terms", "unread"),
    [
        (
            lambda _, x: x._replace(loss=x.loss * math.nan, loss_grad=x.loss_grad * math.nan),
            "loss, loss_grad, gradient",
            1,
        ),
        (
            lambda _, x: x._replace(loss=x.loss + math.inf, loss_int=x.loss_int + math.inf),
            "loss, loss_int",
            3,  # several, as on a GPU
        ),
        (infinite_slope, "gradient", 1),
    ],
    ids=["nan", "inf", "gradient"],
)
def test_r41_training_stops_at_a_loss_that_is_not_finite(
    build, whole, tmp_path, monkeypatch, pairs, how, terms, unread
):
    folder, count = tmp_path / "run", itertools.count()

    def spoiled(fused, *args, **kwargs):
        found = fusion_loss(fused, *args, **kwargs)
        return how(fused, found) if fused.requires_grad and next(count) == 4 else found

    monkeypatch.setattr(training, "fusion_loss", spoiled)
    monkeypatch.setattr(training, "UNREAD", {"cpu": unread})
    trainer = build()
    trainer.run(until=3, progress=False)
    before = contents(folder)
    with pytest.raises(TrainingError) as caught:
        trainer.run(progress=False)
    images = [str(pairs[i].ir) for i in batch_indices(4, 3, CONFIG.batch, CONFIG.seed)]
    said = f"step 4: {terms} not finite, with {', '.join(images)}; the last checkpoint in {folder}"
    assert str(caught.value).startswith(said)
    report = json.loads((folder / "nan_report.json").read_text(encoding="utf-8"))
    assert report["step"] == 4 and report["not_finite"] == terms.split(", ")
    assert report["infrared_images"] == images
    (folder / "nan_report.json").unlink()
    assert contents(folder) == before
    monkeypatch.undo()
    build().run(progress=False)  # from the checkpoint, without the fault
    assert_same_training(folder, whole)


def test_r44_resume_with_another_recipe_is_refused(whole, pairs, encoder, tmp_path, monkeypatch):
    """Nor with other data, another encoder or other code."""
    folder = shutil.copytree(whole, tmp_path / "run")
    others = write_pairs(tmp_path / "others", 3, seed=1)  # of the same names

    def refused(said, train=pairs[:3], val=pairs[3:], encoder=encoder, **changed):
        with pytest.raises(TrainingError, match=said) as caught:
            Trainer(dataclasses.replace(CONFIG, **changed), encoder, train, val, folder)
        message = str(caught.value)
        assert str(folder / "checkpoint.pt") in message and "give another folder" in message

    refused(r"\(seed was 5, is 6\)", seed=6)
    refused(r"\(lr_peak was 0\.001, is 0\.002\)", lr_peak=2e-3)
    network = dataclasses.replace(CONFIG.network, use_cii=False)
    refused(r"\(network\.use_cii was True, is False\)", network=network)
    refused(r"\(training images was '3 pairs, .*, is '2 pairs, ", train=pairs[:2])
    refused(r"\(training images was '3 pairs, .*, is '3 pairs, ", train=pairs[2::-1])
    refused(r"\(training images was '3 pairs, .*, is '3 pairs, ", train=others)
    refused(r"\(validation images was '2 pairs, .*, is '1 pairs, ", val=pairs[3:4])
    refused(r"\(validation images was '2 pairs, .*, is 'no pairs'", val=[])
    refused(r"\(encoder was ", encoder=build_encoder(gain=0.6))
    monkeypatch.setattr(training, "code_fingerprint", lambda: "of another version")
    refused(r"\(code was .*, is 'of another version'\)")
    assert contents(folder) == contents(whole)


def test_r44_a_forced_resume_goes_on_and_is_recorded(whole, pairs, encoder, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    longer = dataclasses.replace(CONFIG, steps=9)
    trainer = Trainer(longer, encoder, pairs[:3], pairs[3:], folder, resume="force")
    assert trainer.step == 8
    trainer.run(progress=False)
    again = Trainer(longer, encoder, pairs[:3], pairs[3:], folder)
    forced = load_weights(folder / "last.safetensors", encoder).record["forced"]
    assert forced == again.record()["forced"] == ["steps was 8, is 9"]
    assert load_weights(whole / "last.safetensors", encoder).record["forced"] == []


def test_r30_damaged_or_malicious_checkpoint_is_refused_and_not_executed(build, whole, tmp_path):
    marker, path = tmp_path / "executed", tmp_path / "run" / "checkpoint.pt"
    path.parent.mkdir()

    class Payload:
        def __reduce__(self):
            return (Path.touch, (marker,))

    def refused():
        with pytest.raises(TrainingError, match=r"checkpoint\.pt: not a checkpoint of this proj"):
            build()

    for content in (b"", b"no checkpoint", (whole / "checkpoint.pt").read_bytes()[:-100]):
        path.write_bytes(content)
        refused()
    for state in ([1, 2], {"identity": None}, {"identity": Payload()}):
        torch.save(state, path)
        refused()
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the payload works


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
