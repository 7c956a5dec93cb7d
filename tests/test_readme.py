"""Promises of README and docs/ that can be checked without running them."""

import re
import shlex
import tomllib
from pathlib import Path

import pandas as pd

from fusionlib.__main__ import _parser
from fusionlib.metrics import METRICS, PAPER
from fusionlib.recipe import PRESETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]
}
SHOWN = {
    "ours, to the letter": "letter",
    "ours": "ours",
    "Maximum": "maximum",
    "Laplacian pyramid": "laplacian",
    "SeAFusion": "SeAFusion",
}


def test_every_command_line_parses():
    text = "\n".join(PAGES.values())
    lines = re.findall(r"^python -m fusionlib (.*?)(?:  +#.*)?$", text, re.M)
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line.replace("…", "ir.png vi.png -o out.png"), comments=True)
        _parser().parse_args(words)


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^|`| )make ([a-z-]+)", README, re.M)) <= targets


def test_every_linked_file_exists():
    for page, text in PAGES.items():
        for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
            assert (page.parent / link).is_file(), (page.name, link)


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
    statistics = [
        pd.read_csv(ROOT / "tables" / "reference" / f"{kind}statistics.csv")
        for kind in ("", "generalise_")
    ]
    here = pd.concat(statistics).set_index(["dataset", "method", "metric"])
    paper = pd.concat(
        pd.read_csv(ROOT / "data" / "paper" / f"table{number}.csv", dtype=str)
        for number in (1, 2, 3)
    )
    paper = paper[paper["method"] == "ours"].set_index("dataset")
    block = re.search("<!-- results -->(.*)<!-- /results -->", README, re.S)[1]
    reached, shown, dataset = dict.fromkeys(SHOWN.values(), 0), [], None
    for line in re.findall(r"^\|(.*)\|$", block, re.M)[2:]:
        name, method, *marked, count = (cell.strip() for cell in line.split("|"))
        method, cells = method.strip("*"), [cell.strip("*") for cell in marked]
        bold = [cell.startswith("**") for cell in marked]
        if name:
            dataset, n = name.split(", n = ")
            assert cells == [paper.loc[dataset, metric] for metric in PAPER]
            continue
        key = SHOWN[method]
        shown.append((dataset, key))
        for metric, cell, is_bold in zip(PAPER, cells, bold, strict=True):
            row, reported = here.loc[dataset, key, metric], paper.loc[dataset, metric]
            assert cell == f"{row['mean']:.{len(reported.partition('.')[2])}f}"
            sign = -1 if METRICS[metric].direction == "lower" else 1
            assert is_bold == (sign * row["mean"] >= sign * float(reported))
            assert int(n) == row["n"]
        assert count == f"{sum(bold)} of 6"
        reached[key] += sum(bold)
    measured = here.index.get_level_values("method")
    assert shown == [(d, key) for d in paper.index for key in SHOWN.values() if key in measured]
    for title, key in SHOWN.items():
        assert key not in measured or f"{title} {reached[key]}" in block
