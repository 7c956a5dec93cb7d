"""The command line as a user sees it: exit status, message, files."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scenes import read_scene

from fusionlib.__main__ import main
from fusionlib.commands.options import check_device
from fusionlib.datasets import find_pairs
from fusionlib.evaluation import read_values
from fusionlib.images import save_image
from fusionlib.splits import split_pairs
from fusionlib.weights import load_weights


@pytest.fixture
def pair(tmp_path):
    ir, vi = read_scene("dusk_camp")
    return (
        str(save_image(tmp_path / "ir" / "camp.png", ir)),
        str(save_image(tmp_path / "vi" / "camp.webp", vi)),
    )


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_two_files_become_one_in_colour(pair, tmp_path, capsys):
    status, said, _ = run(capsys, "fuse", *pair, "-o", tmp_path / "fused.png")
    assert status == 0
    assert Image.open(tmp_path / "fused.png").mode == "RGB"
    assert Image.open(tmp_path / "fused.png").size == (256, 256)
    assert "EfficientNet-Lite0 (ImageNet, not CLIP)" in said and "full.safetensors" in said


def test_two_folders_become_one_and_grey_means_grey(pair, tmp_path, capsys):
    folders = (tmp_path / "ir", tmp_path / "vi")
    status, said, _ = run(capsys, "fuse", *folders, "-o", tmp_path / "out", "--grey")
    assert status == 0 and "1 of 1 images" in said
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
    save_image(path, np.random.default_rng(0).random((256, 256, 3)))


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
    pair, tmp_path, capsys, spoil, expected
):
    spoil(tmp_path / "ir" / "camp.png")
    status, _, said = run(capsys, "fuse", *pair, "-o", tmp_path / "fused.png")
    assert status == 2
    assert said.startswith("error: ") and expected in said and "camp.png" in said
    assert "Traceback" not in said and not (tmp_path / "fused.png").exists()


def test_r13_pseudo_colour_infrared_is_accepted_on_request(pair, tmp_path, capsys):
    pseudo_colour(tmp_path / "ir" / "camp.png")
    out = tmp_path / "fused.png"
    assert run(capsys, "fuse", *pair, "-o", out, "--ir-rgb", "luma")[0] == 0
    assert Image.open(out).size == (256, 256)


def test_r01_orphans_of_both_folders_are_listed(pair, tmp_path, capsys):
    save_image(tmp_path / "ir" / "lonely.png", np.zeros((9, 9)))
    save_image(tmp_path / "vi" / "alone.png", np.zeros((9, 9, 3)))
    status, _, said = run(capsys, "fuse", tmp_path / "ir", tmp_path / "vi", "-o", tmp_path / "out")
    assert status == 2 and "lonely.png" in said and "alone.png" in said


def test_an_output_name_that_no_format_has_is_refused_before_the_work(pair, tmp_path, capsys):
    status, _, said = run(capsys, "fuse", *pair, "-o", tmp_path / "fused.xyz")
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


def local_clip(folder, seed):
    """A small CLIP with random weights, as a folder that open_clip understands."""
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
    }
    torch.manual_seed(seed)
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    )
    weights = open_clip.CLIP(**config).state_dict()
    save_file(weights, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def test_r35_train_with_a_local_clip_then_fuse_with_it_and_with_no_other(
    pair, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    monkeypatch.setattr("fusionlib.datasets.USER_DATA", tmp_path)
    clip, other = local_clip(tmp_path / "one", 1), local_clip(tmp_path / "two", 2)
    train = ("train", "--preset", "quick", "--steps", 2, "--out", tmp_path / "trained")
    status, said, _ = run(capsys, *train, "--encoder", clip)
    assert status == 0 and "synthetic" in said
    weights = ("--weights", tmp_path / "trained" / "best.safetensors")
    fuse = ("fuse", *pair, "-o", tmp_path / "fused.png", *weights)
    assert run(capsys, *fuse)[0] == 0  # the weights name their encoder
    assert run(capsys, *fuse, "--encoder", clip)[0] == 0
    status, _, said = run(capsys, *fuse, "--encoder", other)
    assert status == 2 and clip in said and other in said
    status, said, _ = run(capsys, *train, "--encoder", clip)
    assert status == 0 and "going on after step 2 of 2" in said


def test_train_takes_crops_batch_and_rate_instead_of_the_preset_s(tmp_path, capsys, monkeypatch):
    for name in "abcdefgh":
        for part in ("ir", "vi"):
            save_image(tmp_path / "RoadScene" / part / f"{name}.png", np.full((48, 48), 0.5))
    monkeypatch.setenv("FUSIONLIB_DATA", str(tmp_path))
    given = ("--steps", 1, "--batch", 1, "--crop", 48, "--lr-peak", "2e-4", "--loss-weight", "0.7")
    assert run(capsys, "train", "--preset", "quick", "--out", tmp_path / "out", *given)[0] == 0
    config = load_weights(tmp_path / "out" / "last.safetensors").record["config"]
    names = ("steps", "batch", "crop", "lr_peak", "loss_weight")
    assert [config[key] for key in names] == [1, 1, 48, 2e-4, 0.7]
    given = ("--steps", 1, "--data-root", "synthetic", "--out", tmp_path / "drawn")
    status, said, _ = run(capsys, "train", "--preset", "quick", *given)
    assert status == 0 and said.startswith("as asked: training on the synthetic scenes")


def test_train_enlarges_what_a_crop_does_not_fit_into(tmp_path, capsys, monkeypatch):
    for index, name in enumerate("abcdefgh"):
        image = np.full((48, 48 if index % 2 else 40), 0.5)
        for part in ("ir", "vi"):
            save_image(tmp_path / "RoadScene" / part / f"{name}.png", image)
    monkeypatch.setenv("FUSIONLIB_DATA", str(tmp_path))
    given = ("--steps", 1, "--batch", 1, "--out", tmp_path / "out", "--crop", 48)
    assert run(capsys, "train", "--preset", "quick", *given)[0] == 0
    record = load_weights(tmp_path / "out" / "last.safetensors").record
    assert record["train_pairs"] == {"RoadScene": 3} and record["val_pairs"] == 1


@pytest.mark.parametrize("option", ["--steps", "--batch", "--crop", "--lr-peak", "--loss-weight"])
@pytest.mark.parametrize("value", ["0", "-1", "many", "nan"])
def test_train_refuses_what_is_not_a_positive_number(option, value, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", f"{option}={value}"])
    assert stopped.value.code == 2 and f"'{value}'" in capsys.readouterr().err


def test_status_names_every_dataset_and_where_the_missing_ones_are(tmp_path, capsys):
    status, said, _ = run(capsys, "data", "status", "--root", tmp_path)
    assert status == 0
    for word in ("RoadScene", "LLVIP", "MSRS", "M3FD", "TNO", "figshare.com", "synthetic"):
        assert word in said


def test_status_with_the_drawn_scenes_says_that_no_dataset_is_looked_at(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("FUSIONLIB_DATA", "synthetic")
    status, said, _ = run(capsys, "data", "status")
    assert (
        status == 0 and "the notebooks use the drawn scenes" in said and "missing: TNO" not in said
    )
    assert "missing: TNO" in run(capsys, "data", "status", "--root", tmp_path)[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "results", "--dataset", "TNO", "--data-root", "synthetic"),
        ("data", "prepare", "TNO", "archive.zip", "--root", "synthetic"),
        ("data", "download", "TNO", "--root", "synthetic", "--offline"),
    ],
)
def test_what_needs_datasets_refuses_the_drawn_scenes_and_makes_no_folder(
    arguments, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, _, told = run(capsys, *arguments)
    assert status == 2 and "means the drawn scenes" in told and "./synthetic" in told
    assert list(tmp_path.iterdir()) == []


def test_prepare_brings_an_official_folder_into_place(tmp_path, capsys):
    for name in ("FLIR_1", "FLIR_2"):
        save_image(tmp_path / "got" / "cropinfrared" / f"{name}.png", np.zeros((9, 9)))
        save_image(tmp_path / "got" / "crop_LR_visible" / f"{name}.png", np.zeros((9, 9, 3)))
    root = tmp_path / "root"
    status, said, _ = run(capsys, "data", "prepare", "RoadScene", tmp_path / "got", "--root", root)
    assert status == 0 and "2 pairs" in said
    assert (root / "RoadScene" / "vi" / "FLIR_2.png").is_file()
    assert "  2 " in run(capsys, "data", "status", "--root", root)[1]


def test_download_says_where_the_rest_is_to_be_had(tmp_path, capsys):
    status, _, said = run(
        capsys, "data", "download", "LLVIP", "TNO", "--root", tmp_path, "--offline"
    )
    assert status == 2
    assert "bupt-ai-cz.github.io/LLVIP" in said and "figshare.com" in said
    assert "python -m fusionlib data prepare LLVIP" in said


def test_an_unknown_device_is_an_error_not_a_traceback(pair, tmp_path, capsys):
    status, _, said = run(capsys, "fuse", *pair, "-o", tmp_path / "x.png", "--device", "cuda:99")
    assert status == 2 and "--device cuda:99" in said


@pytest.mark.slow
def test_a_full_vit_b_32_from_a_local_file_trains_and_fuses(pair, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("FUSIONLIB_DATA", raising=False)
    monkeypatch.setattr("fusionlib.datasets.USER_DATA", tmp_path)
    torch.manual_seed(0)
    file = tmp_path / "vit.safetensors"
    save_file(open_clip.create_model("ViT-B-32").state_dict(), file)
    clip = ("--encoder", f"ViT-B-32/{file}")
    train = ("train", "--preset", "quick", "--steps", 2, "--out", tmp_path / "trained")
    assert run(capsys, *train, *clip)[0] == 0
    weights = tmp_path / "trained" / "best.safetensors"
    fuse = ("fuse", *pair, "-o", tmp_path / "fused.png", *clip)
    assert run(capsys, *fuse, "--weights", weights)[0] == 0
    status, _, said = run(capsys, *fuse)  # the shipped weights know another encoder
    assert status == 2 and "'embedded'" in said and "fusionlib train --encoder" in said


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A data root with four TNO pairs (all of them test pairs), and their average as a result."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c", "d"):
        ir, vi = rng.integers(0, 256, (2, 44, 52)).astype(np.uint8)
        for part, image in (("ir", ir), ("vi", vi)):
            save_image(tmp_path / "data" / "TNO" / part / f"{name}.png", image)
        save_image(tmp_path / "mine" / f"{name}.png", ((ir.astype(int) + vi) // 2).astype(np.uint8))
    monkeypatch.setenv("FUSIONLIB_DATA", str(tmp_path / "data"))
    return tmp_path / "mine"


UNLISTED = ("--allow-unlisted",)  # the pairs of these tests are made here


def evaluated(capsys, results, *more):
    return run(capsys, "evaluate", results, "--dataset", "TNO", "--jobs", "1", *UNLISTED, *more)


def test_evaluate_prints_means_with_intervals_and_writes_each_value(results, tmp_path, capsys):
    csv = tmp_path / "values.csv"
    status, said, _ = evaluated(capsys, results, "-o", csv, "--metrics", "ag", "scd")
    assert status == 0 and "mine*, TNO, 4 of 4 pairs" in said
    values = read_values(csv)
    assert len(values) == 8 and set(values["method"]) == {"mine"}
    mean = values.loc[values["metric"] == "ag", "value"].mean()
    assert f"Q_AG ↑   {mean:9.4f}  [" in said and "Q_CV" not in said


def test_evaluate_by_another_protocol(results, capsys):
    def vif(*more):
        said = evaluated(capsys, results, "--metrics", "vif", *more)[1]
        return float(said.splitlines()[1].split()[2])

    assert vif("--protocol", "vif_sum") == pytest.approx(2 * vif(), abs=2e-4)


def test_r47_evaluate_names_what_is_missing_or_marks_it(results, capsys):
    (results / "c.png").unlink()
    status, _, told = evaluated(capsys, results)
    assert status == 2 and "mine/TNO/c" in told
    status, said, _ = evaluated(capsys, results, "--allow-missing", "--metrics", "ag")
    assert status == 0 and "1 of 4 values undefined" in said


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--metrics", "psnr"), "'psnr'"),
        (("--protocol", "theirs"), "'theirs'"),
        (("--dataset", "MSRS"), "has no MSRS"),
        (("--dataset", "Mars"), "'Mars'"),
    ],
)
def test_evaluate_explains_what_it_does_not_know(results, capsys, more, told):
    status, _, said = evaluated(capsys, results, *more)
    assert status == 2 and told in said


def test_r04_damaged_pairs_are_left_out_on_request_and_reported(tmp_path, capsys):
    for name in ("a", "b", "c"):
        for part in ("ir", "vi"):
            save_image(tmp_path / part / f"{name}.png", np.full((24, 32), 0.5))
    (tmp_path / "vi" / "b.png").write_text("text")
    fuse = ("fuse", tmp_path / "ir", tmp_path / "vi", "-o", tmp_path / "out")
    status, _, told = run(capsys, *fuse)
    assert status == 2 and "b.png" in told and not (tmp_path / "out").exists()
    status, said, told = run(
        capsys, *fuse, "--on-bad", "skip", "--ir-range", "10", "200", "--precision", "bf16"
    )
    assert status == 0 and "2 of 3 images" in said and "damaged: b: " in told
    assert "b,damaged," in (tmp_path / "out" / "issues.csv").read_text(encoding="utf-8")
    used = json.loads((tmp_path / "out" / "fused.json").read_text(encoding="utf-8"))
    assert used["ir_range"] == [10, 200] and used["resize"] is None  # rows 3 and 6: recorded
    assert used["sha256"] == load_weights().sha256 and used["precision"] == "bf16"
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.png")) == ["a", "c"]


def test_each_process_of_torchrun_names_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch, "empty", lambda size, device: None)
    assert check_device("cuda") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert check_device("cuda") == torch.device("cuda", 1)
    assert check_device("cuda:0") == torch.device("cuda", 0)
    assert check_device("cpu") == torch.device("cpu")


def test_r04_r49_means_over_what_is_left_state_both_numbers(results, tmp_path, capsys):
    (results / "b.png").write_text("text")
    csv = tmp_path / "values.csv"
    status, _, told = evaluated(capsys, results, "-o", csv)
    assert status == 2 and "b.png" in told
    status, said, _ = evaluated(capsys, results, "--on-bad", "skip", "-o", csv, "--metrics", "ag")
    assert status == 0 and "3 of 4 pairs" in said and "left out: 1 damaged: b" in said
    values = read_values(csv)  # with what the first call had measured
    assert sorted(values[values["metric"] == "ag"]["name"]) == ["a", "c", "d"]
    assert "b" not in set(values["name"])
    assert ",b,damaged," in (tmp_path / "values.issues.csv").read_text(encoding="utf-8")


def test_r22_images_that_are_not_listed_are_refused_or_marked(results, tmp_path, capsys):
    arguments = ("evaluate", results, "--dataset", "TNO", "--jobs", "1", "--metrics", "ag")
    status, _, told = run(capsys, *arguments)
    assert status == 2 and "4 unlisted: a, b, c, d; 55 missing" in told
    csv = tmp_path / "values.csv"
    status, said, _ = run(capsys, *arguments, "--allow-unlisted", "-o", csv)
    assert status == 0 and "mine*, TNO" in said
    assert "* not the images of data/splits/TNO.csv: 4 unlisted" in said
    assert "TNO,a,unlisted," in (tmp_path / "values.issues.csv").read_text(encoding="utf-8")


def test_r22_the_official_msrs_layout_passes(tmp_path, capsys, monkeypatch):
    """PNG in test/{ir,vi} and train/{ir,vi}, as its owner ships it; here the copies are WebP."""
    root = Path(os.environ.get("FUSIONLIB_DATA") or "not set")
    if not (root / "MSRS").is_dir():
        pytest.skip("FUSIONLIB_DATA has no MSRS")
    parts = split_pairs(find_pairs(root, "MSRS"), "MSRS")
    official = {"test": parts["test"], "train": [*parts["val"][:2], *parts["train"][:3]]}
    for part, pairs in official.items():
        for pair in pairs:
            for side in ("ir", "vi"):
                target = tmp_path / "MSRS" / part / side / f"{pair.name}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                image = Image.open(getattr(pair, side))
                image.convert("L" if side == "ir" else "RGB").save(target, compress_level=1)
    monkeypatch.setenv("FUSIONLIB_DATA", str(tmp_path))
    arguments = ("evaluate", tmp_path / "MSRS" / "test" / "ir", "--dataset", "MSRS")
    arguments += ("--metrics", "ag", "--jobs", "1")
    status, said, told = run(capsys, *arguments)
    assert status == 0, told
    assert "ir, MSRS, 20 of 20 pairs" in said and "*" not in said
    path = tmp_path / "MSRS" / "test" / "vi" / f"{parts['test'][3].name}.png"
    Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    status, _, told = run(capsys, *arguments)
    assert status == 2 and f"1 changed: {path.stem}" in told


def test_r18_linked_images_are_read_on_request(pair, tmp_path, capsys):
    target = tmp_path / "ir" / "camp.png"
    target.rename(tmp_path / "elsewhere.png")
    target.symlink_to(tmp_path / "elsewhere.png")
    fuse = ("fuse", tmp_path / "ir", tmp_path / "vi", "-o", tmp_path / "out")
    status, _, told = run(capsys, *fuse)
    assert status == 2 and "--follow-links" in told
    assert run(capsys, *fuse, "--follow-links")[0] == 0


# Row 36: there are no profiles; what could stand in one is given as options


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["fuse", "a", "b", "-o", "c.png", "--ir-range", "nan", "1"], "ir_range"),
        (["fuse", "a", "b", "-o", "c.png", "--ir-range", "5", "5"], "ir_range"),
        (["fuse", "a", "b", "-o", "c.png", "--ir-range", "!!python/x", "1"], "--ir-range"),
        (["train", "--average", "inf"], "--average"),
        (["train", "--lr-peak", "inf"], "--lr-peak"),
        (["train", "--seed", "1.5"], "--seed"),
        (["train", "--seed", "-1"], "seed"),
        (["train", "--sead", "1"], "--sead"),
        (["paper", "--preset", "fast"], "--preset"),
    ],
)
def test_r36_unknown_names_wrong_types_and_impossible_values_are_named(
    pair, arguments, named, capsys
):
    arguments = [{"a": pair[0], "b": pair[1]}.get(word, word) for word in arguments]
    try:
        status = main(arguments)
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2 and named in capsys.readouterr().err
