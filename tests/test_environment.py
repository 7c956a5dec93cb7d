"""Rows 36, 59, 60 and 61 of the fault list: what surrounds the code must not change its results."""

import os
import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fusionlib import versions
from fusionlib.errors import FusionError

ROOT = Path(__file__).parent.parent

PROBE = """
import hashlib, runpy, sys
from pathlib import Path
import numpy as np
from PIL import Image
from fusionlib import evaluation
from paper import figures, tables
from fusionlib.datasets import SCENES, Pair
from fusionlib.splits import SPLITS
from fusionlib.download import extract
from fusionlib.images import save_image
import zipfile

out, pairs = Path(sys.argv[1]), []
scene = [np.asarray(Image.open(SCENES / kind / "dusk_camp.png")) for kind in ("ir", "vi")]
for name in "abcdefgh":
    k = ord(name)
    ir, vi = (np.roll(picture, k, 0)[:48, :64] for picture in scene)
    files = save_image(out / "ir" / f"{name}.png", ir), save_image(out / "vi" / f"{name}.jpg", vi)
    pairs.append(Pair("TNO", name, *files))
    for method in ("average", "maximum", "ours"):
        fused = (ir // 2 + vi[:, :, 1] // 2) // (1 + len(method) % 2)
        save_image(out / method / f"{name}.png", fused)
runpy.run_path(str(SPLITS / "draw.py"))["write_list"](pairs, "TNO", out)
methods = {method: out / method for method in ("ours", "maximum", "average")}
frame = evaluation.evaluate(methods, {"TNO": pairs}, ["ag", "scd"], csv=out / "v.csv", jobs=1)
tables.write_table(tables.mean_table(frame), out, "table", "Größe, 図, 0,5")
figure = figures.image_grid([[ir / 255, vi / 255]], ("Wärme", "b"))
figures.save_figure(figure, out, "grid", ("png", "svg", "pdf"))
with zipfile.ZipFile(out / "a.zip", "w") as box:
    box.writestr(zipfile.ZipInfo("a/b.txt"), "1")
extract(out / "a.zip", out / "unpacked")
(out / "a.zip").unlink()
for path in sorted(out.rglob("*")):
    if path.is_file() and path.name[0] != ".":
        print(path.relative_to(out).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest())
"""


def probe(folder, *options, **environment):
    """Names and hashes of what a process writes that makes a bit of everything."""
    folder.mkdir()
    (folder / "probe.py").write_text(PROBE, encoding="utf-8")
    inherited = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")}
    done = subprocess.run(
        [sys.executable, *options, "probe.py", "out"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_r61_locale_time_zone_hash_seed_display_and_optimisation_change_nothing(tmp_path):
    plain = probe(tmp_path / "plain", LC_ALL="C.UTF-8", TZ="UTC", PYTHONHASHSEED="0")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    other = {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "4711", "LANG": "de_DE.ISO-8859-1"}
    assert probe(tmp_path / "other", "-O", **ascii_only, **other) == plain
    assert {"v.csv", "table.md", "grid.svg", "grid.pdf", "TNO.csv", "unpacked/a/b.txt"} <= {
        line.split()[0] for line in plain.splitlines()
    }


def test_r61_r36_no_check_is_an_assert_no_pickle_or_text_is_run_and_texts_name_their_encoding():
    """There are no profiles in files; nothing that could run code from one may come in."""
    rules = "S101,S102,S301,S307,S403,S506,PLW1514"  # assert, exec, pickle, eval, yaml, open
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--preview", "--isolated"]
    command += ["--select", rules, str(ROOT / "fusionlib")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "fusionlib").rglob("*.py")]
    loads = re.findall(r"(?<!safetensors\.)torch\.load\(.*", "\n".join(sources))
    assert loads and all("weights_only=True" in line for line in loads)


SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|gh[pousr]_\w{36}|hf_\w{30}|sk-[\w-]{20}|xox[abp]-\w+|eyJ[\w-]{20,}\."
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|(?i:password|passwd|api_?key|secret|token)\s*[=:]\s*['\"]\w"
)


def test_r60_no_secrets_in_notebooks():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert not SECRET.search(path.read_text(encoding="utf-8")), path
    for secret in ("ghp_" + "a" * 36, "hf_" + "b" * 34, 'api_key = "x1"', "AKIA" + "A" * 16):
        assert SECRET.search(f"text {secret} text")


def test_r25_no_test_reaches_the_network():
    with pytest.raises(pytest.fail.Exception, match=r"tried to connect to \('192\.0\.2\.1', 9\)"):
        socket.create_connection(("192.0.2.1", 9), timeout=1)


@pytest.fixture
def lock(tmp_path):
    path = tmp_path / "requirements.lock"
    pytest_here = versions.version("pytest")
    marked = "numpy==0.1 ; python_version > '3' \\\n    --hash=sha256:00\n"
    path.write_text(f"# comment\n{marked}pytest=={pytest_here}\nno_such==1\n")
    return path


def test_r59_other_versions_are_an_error_in_the_paper_preset_and_a_note_elsewhere(
    lock, monkeypatch
):
    found = versions.check("quick", lock)
    assert found == [f"numpy is {versions.version('numpy')}, was 0.1"]
    message = r"numpy is .*was 0\.1.*pip install -r requirements\.lock"
    with pytest.raises(FusionError, match=message):
        versions.check("paper", lock)
    lock.write_text("numpy==0.1\npytest==9\n")  # a build for other hardware is the same version
    monkeypatch.setattr(versions, "version", {"numpy": "0.1+cu130", "pytest": "9"}.get)
    assert versions.check("paper", lock) == []


def test_r59_the_lock_pins_every_dependency_exactly_and_with_hashes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = sum(project["optional-dependencies"].values(), project["dependencies"])
    named = {re.match(r"[\w-]+", line)[0].lower().replace("_", "-") for line in lines}
    text = versions.LOCK.read_text(encoding="utf-8")
    entries = re.findall(
        r"^([\w-]+)==[\w.]+(?: ; [^\\\n]+)?((?: \\\n    --hash=sha256:\w{64})+)$", text, re.M
    )
    pinned = {name for name, _ in entries}
    assert named - {"fusionlib"} <= pinned and len(pinned) == len(re.findall("^[^# ]", text, re.M))
