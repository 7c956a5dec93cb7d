"""``fusionlib fuse`` of two files as a user sees it: exit status, message, files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from videos import frames_of, random_frames, write_video

from fusionlib.images import save_image


def test_two_files_become_one_in_colour(pair, tmp_path, run):
    status, said, _ = run("fuse", *pair, "-o", tmp_path / "fused.png")
    assert status == 0
    assert Image.open(tmp_path / "fused.png").mode == "RGB"
    assert Image.open(tmp_path / "fused.png").size == (256, 256)
    assert "EfficientNet-Lite0 (ImageNet, not CLIP)" in said and "full.safetensors" in said
    before = torch.get_num_threads()
    try:
        assert run("fuse", *pair, "-o", tmp_path / "x.png", "--threads", before + 1)[0] == 0
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_r04_r13_bad_inputs_are_explained_and_leave_nothing(pair, tmp_path, run):
    path, vi = Path(pair[0]), Path(pair[1])
    heat = np.random.default_rng(0).random((256, 256))
    colours = np.dstack([heat, heat**2, heat**3])  # brightens with heat, as iron does
    fuse = ("fuse", *pair, "-o", tmp_path / "fused.png")
    for spoil, expected in (
        (lambda: path.write_bytes(path.read_bytes()[:20_000]), "cannot be read"),
        (lambda: save_image(path, heat[:200]), "256×200"),
        (lambda: save_image(path, colours), "pseudo-colour"),
        (vi.unlink, "no such file"),
    ):
        before = vi.read_bytes()
        spoil()
        status, _, said = run(*fuse)
        assert status == 2 and said.startswith("error: ") and expected in said and "camp" in said
        assert "Traceback" not in said and not (tmp_path / "fused.png").exists()
    vi.write_bytes(before)
    assert run(*fuse, "--ir-rgb", "luma")[0] == 0  # row 13: on request


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-o", "x.png"), "expected IR and VI"),
        (("IR", "-o", "x.png"), "expected IR and VI"),
        (("IR", "FOLDER", "-o", "x.png"), "expected two images, folders or videos"),
        (("IR", "VI", "-o", "x.png", "--device", "cuda:99"), "--device cuda:99"),
        (("IR", "VI", "-o", "x.xyz"), ".png"),
    ],
)
def test_what_cannot_be_fused_is_said_before_the_work(
    pair, tmp_path, run, monkeypatch, words, told
):
    monkeypatch.chdir(tmp_path)
    given = dict(zip(("IR", "VI", "FOLDER"), (*pair, tmp_path / "vi"), strict=True))
    status, _, said = run("fuse", *(given.get(word, word) for word in words))
    assert status == 2 and told in said and not list(tmp_path.glob("x.*"))


def test_r34_clip_without_network_ends_at_once_and_says_the_ways_on(pair, tmp_path):
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": "https://hub.invalid"}
    command = [sys.executable, "-m", "fusionlib", "fuse", *pair, "-o", "fused.png"]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--encoder", "ViT-B-32/openai"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 2 and time.monotonic() - started < 60
    assert "Traceback" not in done.stderr and not (tmp_path / "fused.png").exists()
    for part in ("ViT-B-32/openai", "huggingface.co", "ViT-B-32-quickgelu/", "--encoder embedded"):
        assert part in done.stderr


def test_r11_one_of_several_pictures_and_more_pixels_on_request(pair, tmp_path, run):
    small, pages = Image.new("L", (64, 64)), [tmp_path / "ir.tif", tmp_path / "vi.tif"]
    for page, file in zip(pages, pair, strict=True):
        small.save(page, save_all=True, append_images=[Image.open(file)])
    fuse = ("fuse", *pages, "-o", tmp_path / "fused.png")
    status, _, said = run(*fuse)
    assert status == 2 and "--frame" in said
    assert run(*fuse, "--frame", 1)[0] == 0
    assert run("fuse", *pair, "-o", tmp_path / "whole.png")[0] == 0
    one, two = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("fused", "whole"))
    assert np.array_equal(one, two)
    status, _, said = run(*fuse, "--frame", 1, "--max-pixels", 60_000)
    assert status == 2 and "60,000" in said and "--max-pixels" in said


def test_r75_videos_from_the_command_line(tmp_path, run):
    for side, frames in zip(("ir", "vi"), random_frames(2), strict=True):
        write_video(tmp_path / f"{side}.mkv", frames)
    fuse = ("fuse", tmp_path / "ir.mkv", tmp_path / "vi.mkv", "-o")
    status, said, _ = run(*fuse, tmp_path / "fused.mp4")
    assert status == 0 and said.startswith(str(tmp_path / "fused.mp4"))
    assert len(frames_of(tmp_path / "fused.mp4")) == 2
    status, _, said = run(*fuse, tmp_path / "fused.gif")
    assert status == 2 and ".mp4" in said
