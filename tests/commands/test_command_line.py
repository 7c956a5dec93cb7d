"""What all commands have in common."""

import os
import subprocess
import sys

import pytest

from fusionlib.__main__ import main
from fusionlib.files import REPOSITORY


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["fuse", "a", "b", "-o", "c.png", "--ir-range", "nan", "1"], "ir_range"),
        (["fuse", "a", "b", "-o", "c.png", "--ir-range", "5", "5"], "ir_range"),
        (["fuse", "a", "b", "-o", "c.png", "--ir-range", "!!python/x", "1"], "--ir-range"),
        (["train", "--average", "1"], "--average"),
        (["train", "--lr-peak", "nan"], "--lr-peak"),
        (["train", "--steps", "0"], "--steps"),
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


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp936"])
def test_r70_a_pipe_that_cannot_encode_a_character_is_no_error(encoding, tmp_path):
    """As on Windows, where a file or pipe has the code page of the country."""
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(REPOSITORY)}
    settings = {"capture_output": True, "env": environment, "cwd": tmp_path}
    code = r"""
import argparse, sys
from fusionlib.__main__ import run_command
from fusionlib.errors import FusionError
def command(options):
    print("Q_AB/F \u2191 \u03bb \u591c \u00fc")
    print("\u2191", file=sys.stderr)
    raise FusionError("256\u00d7200 \udcff")
parser = argparse.ArgumentParser()
parser.set_defaults(command=command)
sys.exit(run_command(parser, []))
"""
    for arguments, status in ((["-c", code], 2), (["-m", "fusionlib", "train", "--help"], 0)):
        done = subprocess.run([sys.executable, *arguments], **settings)
        assert done.returncode == status and b"Traceback" not in done.stderr, done.stderr
        assert done.stdout.decode(encoding)


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not in a git checkout")
def test_r70_a_clone_by_git_for_windows_has_the_same_bytes(tmp_path):
    def git(*arguments, cwd=REPOSITORY):
        done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, check=True)
        return done.stdout

    clone = ("clone", "--quiet", "--shared", "-c", "core.autocrlf=true", REPOSITORY, tmp_path / "c")
    git(*clone)
    assert not git("status", "--porcelain", cwd=tmp_path / "c")
    for line in git("ls-files", "--eol", cwd=tmp_path / "c").splitlines():
        assert b"crlf" not in line and b"mixed" not in line, line


def test_passive_waiting_is_asked_for_before_torch_is_there_unless_set_otherwise():
    code = """
import os, sys
from fusionlib import __main__
assert "torch" not in sys.modules
try: __main__.main(["--version"])
except SystemExit: print(os.environ["OMP_WAIT_POLICY"])
"""
    kept = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    for given, used in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        environment = kept | {"PYTHONPATH": str(REPOSITORY)} | given
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
        assert done.stdout.decode().split()[-1:] == [used], done.stderr


def test_a_pipe_that_is_closed_ends_quietly(tmp_path):
    """As `fusionlib data status | head` closes it."""
    settings = {"env": os.environ | {"PYTHONPATH": str(REPOSITORY)}, "cwd": tmp_path}
    command = [sys.executable, "-m", "fusionlib", "data", "status"]
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)
    done.stdout.close()
    assert done.stderr.read() == b"" and done.wait() == 1
