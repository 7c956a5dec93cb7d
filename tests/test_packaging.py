"""One list of dependencies: what conda, pip, the lock and make say must fit together."""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def numbers(version):
    return tuple(int(part) for part in re.findall(r"\d+", version))


def test_conda_has_a_python_the_package_accepts_and_leaves_the_rest_to_pip():
    listed = re.findall(r"^ +- (.+)$", ENVIRONMENT, re.M)
    channel, python, *others = listed
    assert channel == "conda-forge" and python.startswith("python=")
    assert numbers(python) >= numbers(PROJECT["requires-python"])
    assert others == ["pip", "pip:", "--editable .[test]"]
    assert "test" in PROJECT["optional-dependencies"]
    assert f"name: {PROJECT['name']}" in ENVIRONMENT


def test_the_lock_is_within_what_the_package_asks_for():
    lock = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.M))
    for line in PROJECT["dependencies"]:
        name, limits = re.match(r"([\w-]+)(.*)", line).groups()
        for sign, bound in re.findall(r"(>=|<|==)([\d.]+)", limits):
            locked, limit = numbers(lock[name]), numbers(bound)
            fits = {">=": locked >= limit, "<": locked < limit, "==": locked == limit}
            assert fits[sign], f"{line}: {lock[name]} is locked"


def test_what_the_package_needs_travels_with_it():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    given = settings["setuptools"]["package-data"]
    assert given["paper"] == ["templates/*"]
    assert {path.parent.name for path in (ROOT / "paper").rglob("*.html")} == {"templates"}
    shipped = [
        path for pattern in given["fusionlib.data"] for path in (ROOT / "data").glob(pattern)
    ]
    folders = {path.relative_to(ROOT / "data").parts[0] for path in shipped}
    assert folders == {"paper", "splits", "synthetic", "weights"}


def test_make_help_lists_every_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^make ([a-z-]+)", done.stdout, re.M)
    assert sorted(listed) == sorted(re.search(r"\.PHONY: (.*)", MAKEFILE).group(1).split())
