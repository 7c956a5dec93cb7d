"""README promises that can be checked without running them."""

import re
import shlex
import tomllib
from pathlib import Path

import pandas as pd

from fusionlib.__main__ import _parser
from fusionlib.metrics import METRICS
from fusionlib.recipe import PRESETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_line_parses():
    lines = re.findall(r"^python -m fusionlib (.*?)(?:  +#.*)?$", README, re.M)
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line.replace("…", "ir.png vi.png -o out.png"), comments=True)
        _parser().parse_args(words)


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^|`| )make ([a-z-]+)", README, re.M)) <= targets


def test_every_linked_file_exists():
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).is_file(), link


def test_the_preset_table_is_the_code():
    for name, crop, batch in re.findall(r"^\| `(\w+)` \| (\d+)² \| (\d+) \|", README, re.M):
        assert (PRESETS[name].crop, PRESETS[name].batch) == (int(crop), int(batch))
    assert f"{PRESETS['cpu'].steps} steps" in README


def test_the_packages_asked_for_are_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = [d for group in project["optional-dependencies"].values() for d in group]
    named = {re.split(r"[<>=\[ ]", d)[0] for d in (*project["dependencies"], *optional)}
    asked = (
        "torch open_clip_torch jupyterlab papermill matplotlib seaborn pandas scikit-image nbval"
    )
    assert named >= {*asked.split(), "nbval"}
    assert "pyproject" in (ROOT / "environment.yml").read_text()  # one list of dependencies


def test_the_results_are_those_of_the_tables():
    numbers = pd.read_csv(ROOT / "tables" / "reference" / "numbers.csv")
    ahead = 0
    for name, group in numbers.groupby("dataset", sort=False):
        (line,) = re.findall(rf"^\| {name} \| (\d+) \| (.*) \|$", README, re.M)
        cells = re.findall(r"(\*\*)?([\d.]+)(?:\*\*)? / ([\d.]+)", line[1])
        assert int(line[0]) == group["n"].iloc[0] and len(cells) == len(group)
        for (bold, ours, paper), row in zip(cells, group.itertuples(), strict=True):
            places = len(ours.partition(".")[2])
            assert ours == f"{row.ours:.{places}f}" and paper == f"{row.paper:.{places}f}"
            is_lower_better = METRICS[row.metric].direction == "lower"
            is_ahead = row.ours <= row.paper if is_lower_better else row.ours >= row.paper
            assert bool(bold) == is_ahead
            ahead += is_ahead
    assert f"{ahead} of {len(numbers)} at or beyond the paper's" in README
