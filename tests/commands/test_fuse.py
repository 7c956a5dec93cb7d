"""``fusionlib fuse`` as a user sees it: exit status, message, files."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from fusionlib.images import save_image
from fusionlib.weights import load_weights


def test_two_files_become_one_in_colour(pair, tmp_path, run):
    status, said, _ = run("fuse", *pair, "-o", tmp_path / "fused.png")
    assert status == 0
    assert Image.open(tmp_path / "fused.png").mode == "RGB"
    assert Image.open(tmp_path / "fused.png").size == (256, 256)
    assert "EfficientNet-Lite0 (ImageNet, not CLIP)" in said and "full.safetensors" in said


def test_two_folders_become_one_and_grey_means_grey(pair, tmp_path, run):
    folders = (tmp_path / "ir", tmp_path / "vi")
    status, said, _ = run("fuse", *folders, "-o", tmp_path / "out", "--grey")
    assert status == 0 and "1 of 1 image " in said
    assert Image.open(tmp_path / "out" / "camp.png").mode == "L"


def text_named_png(path):
    path.write_text("not an image")


def truncated(path):
    save_image(path, np.random.default_rng(0).random((256, 256)))
    path.write_bytes(path.read_bytes()[:20_000])


def transparent(path):
    Image.new("RGBA", (256, 256), (10, 20, 30, 128)).save(path)


def other_size(path):
    save_image(path, np.zeros((200, 256)))


def pseudo_colour(path):
    heat = np.random.default_rng(0).random((256, 256))
    save_image(path, np.dstack([heat, heat**2, heat**3]))  # brightens with heat, as iron does


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (text_named_png, "cannot be read"),
        (truncated, "cannot be read"),
        (transparent, "transparent"),
        (other_size, "256×200"),
        (pseudo_colour, "pseudo-colour"),
        (lambda path: path.unlink(), "no such file"),
    ],
    ids=["text", "truncated", "alpha", "size", "colour", "missing"],
)
def test_r01_to_r14_bad_inputs_are_explained_and_leave_nothing(
    pair, tmp_path, run, spoil, expected
):
    spoil(tmp_path / "ir" / "camp.png")
    status, _, said = run("fuse", *pair, "-o", tmp_path / "fused.png")
    assert status == 2
    assert said.startswith("error: ") and expected in said and "camp.png" in said
    assert "Traceback" not in said and not (tmp_path / "fused.png").exists()


def test_r13_pseudo_colour_infrared_is_accepted_on_request(pair, tmp_path, run):
    pseudo_colour(tmp_path / "ir" / "camp.png")
    out = tmp_path / "fused.png"
    assert run("fuse", *pair, "-o", out, "--ir-rgb", "luma")[0] == 0
    assert Image.open(out).size == (256, 256)


def test_r01_orphans_of_both_folders_are_listed(pair, tmp_path, run):
    save_image(tmp_path / "ir" / "lonely.png", np.zeros((9, 9)))
    save_image(tmp_path / "vi" / "alone.png", np.zeros((9, 9, 3)))
    status, _, said = run("fuse", tmp_path / "ir", tmp_path / "vi", "-o", tmp_path / "out")
    assert status == 2 and "lonely.png" in said and "alone.png" in said


def test_an_output_name_that_no_format_has_is_refused_before_the_work(pair, tmp_path, run):
    status, _, said = run("fuse", *pair, "-o", tmp_path / "fused.xyz")
    assert status == 2 and ".xyz" in said and ".png" in said


def test_r34_clip_without_network_ends_at_once_and_says_the_ways_on(pair, tmp_path):
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": "https://hub.invalid"}
    started = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "fusionlib",
            "fuse",
            *pair,
            "-o",
            str(tmp_path / "fused.png"),
            "--encoder",
            "ViT-B-32/openai",
        ],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 2 and time.monotonic() - started < 60
    assert "Traceback" not in done.stderr and not (tmp_path / "fused.png").exists()
    for part in ("ViT-B-32/openai", "huggingface.co", "ViT-B-32-quickgelu/", "--encoder embedded"):
        assert part in done.stderr


def test_r04_damaged_pairs_are_left_out_on_request_and_reported(tmp_path, run):
    for name in ("a", "b", "c"):
        for part in ("ir", "vi"):
            save_image(tmp_path / part / f"{name}.png", np.full((24, 32), 0.5))
    (tmp_path / "vi" / "b.png").write_text("text")
    fuse = ("fuse", tmp_path / "ir", tmp_path / "vi", "-o", tmp_path / "out")
    status, _, told = run(*fuse)
    assert status == 2 and "b.png" in told and not (tmp_path / "out").exists()
    status, said, told = run(
        *fuse, "--on-bad", "skip", "--ir-range", "10", "200", "--precision", "bf16"
    )
    assert status == 0 and "2 of 3 images" in said and "damaged: b: " in told
    assert "b,damaged," in (tmp_path / "out" / "issues.csv").read_text(encoding="utf-8")
    used = json.loads((tmp_path / "out" / "fused.json").read_text(encoding="utf-8"))
    assert used["ir_range"] == [10, 200] and used["resize"] is None  # rows 3 and 6: recorded
    assert used["sha256"] == load_weights().sha256 and used["precision"] == "bf16"
    assert used["vi_range"] is None and used["ir_invert"] is False and used["threads"] >= 1
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.png")) == ["a", "c"]


def test_r18_linked_images_are_read_on_request(pair, tmp_path, run):
    target = tmp_path / "ir" / "camp.png"
    target.rename(tmp_path / "elsewhere.png")
    target.symlink_to(tmp_path / "elsewhere.png")
    fuse = ("fuse", tmp_path / "ir", tmp_path / "vi", "-o", tmp_path / "out")
    status, _, told = run(*fuse)
    assert status == 2 and "--follow-links" in told
    assert run(*fuse, "--follow-links")[0] == 0


def test_an_unknown_device_is_an_error_not_a_traceback(pair, tmp_path, run):
    status, _, said = run("fuse", *pair, "-o", tmp_path / "x.png", "--device", "cuda:99")
    assert status == 2 and "--device cuda:99" in said


@pytest.mark.parametrize("words", [(), ("ir",), ("ir", "folder")])
def test_what_cannot_be_fused_together_is_said(pair, tmp_path, run, words):
    given = [{"ir": pair[0], "folder": tmp_path / "vi"}[word] for word in words]
    status, _, said = run("fuse", *given, "-o", tmp_path / "x.png")
    assert status == 2 and "expected" in said and not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("name", ["checkpoint.pt", "other.pth"])
def test_what_is_no_weights_file_of_this_program_is_called_so(pair, tmp_path, run, name):
    torch.save({"w": torch.zeros(3)}, tmp_path / name)
    fuse = ("fuse", *pair, "-o", tmp_path / "x.png", "--weights", tmp_path / name)
    status, _, said = run(*fuse)
    assert status == 2 and f"{name}: not a weights file of this project" in said


def test_paths_with_spaces_umlauts_and_colons(pair, tmp_path, run):
    folder = tmp_path / "C: Übersicht (1)"
    folder.mkdir()
    for path in pair:
        shutil.copy(path, folder)
    (folder / "camp.png").rename(folder / "wärme 1.png")
    given = (folder / "wärme 1.png", folder / "camp.webp")
    assert run("fuse", *given, "-o", folder / "neu" / "größe 1.png")[0] == 0
    assert Image.open(folder / "neu" / "größe 1.png").size == (256, 256)


def test_r11_one_of_several_pictures_and_more_pixels_on_request(pair, tmp_path, run):
    pages = tmp_path / "ir.tif"
    small, image = Image.new("L", (64, 64)), Image.open(pair[0])
    small.save(pages, save_all=True, append_images=[image])
    fuse = ("fuse", pages, tmp_path / "vi.tif", "-o", tmp_path / "fused.png")
    small.save(tmp_path / "vi.tif", save_all=True, append_images=[Image.open(pair[1])])
    status, _, said = run(*fuse)
    assert status == 2 and "--frame" in said
    assert run(*fuse, "--frame", 1)[0] == 0
    assert run("fuse", *pair, "-o", tmp_path / "whole.png")[0] == 0
    one, two = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("fused", "whole"))
    assert np.array_equal(one, two)
    status, _, said = run(*fuse, "--frame", 1, "--max-pixels", 60_000)
    assert status == 2 and "60,000" in said and "--max-pixels" in said


def test_threads_are_those_asked_for(pair, tmp_path, run):
    before = torch.get_num_threads()
    try:
        assert run("fuse", *pair, "-o", tmp_path / "x.png", "--threads", before + 1)[0] == 0
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_r75_videos_from_the_command_line(tmp_path, run):
    av = pytest.importorskip("av")
    rng = np.random.default_rng(0)
    for side, end in (("ir", ()), ("vi", (3,))):
        with av.open(str(tmp_path / f"{side}.mkv"), "w") as file:
            stream = file.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0" if end else "gray"
            for _ in range(2):
                levels = rng.integers(0, 256, (32, 48, *end), np.uint8)
                frame = av.VideoFrame.from_ndarray(levels, format="rgb24" if end else "gray")
                file.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
            file.mux(stream.encode())
    fuse = ("fuse", tmp_path / "ir.mkv", tmp_path / "vi.mkv", "-o")
    status, said, _ = run(*fuse, tmp_path / "fused.mp4")
    assert status == 0 and said.startswith(str(tmp_path / "fused.mp4"))
    with av.open(str(tmp_path / "fused.mp4")) as file:
        assert len(list(file.decode(video=0))) == 2
    status, _, said = run(*fuse, tmp_path / "fused.gif")
    assert status == 2 and ".mp4" in said
