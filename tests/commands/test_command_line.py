"""What all commands have in common."""

import pytest

from fusionlib.__main__ import main


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "results", "--dataset", "TNO", "--data-root", "synthetic"),
        ("data", "prepare", "TNO", "archive.zip", "--root", "synthetic"),
        ("data", "download", "TNO", "--root", "synthetic", "--offline"),
    ],
)
def test_what_needs_datasets_refuses_the_drawn_scenes_and_makes_no_folder(
    arguments, tmp_path, run, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, _, told = run(*arguments)
    assert status == 2 and "means the drawn scenes" in told and "./synthetic" in told
    assert list(tmp_path.iterdir()) == []


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
