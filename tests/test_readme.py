"""Promises of README and docs/ that can be checked without running them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import paper.__main__
from fusionlib.__main__ import _parser
from fusionlib.commands.options import spread_auto
from fusionlib.datasets import SCENES
from fusionlib.metrics import PAPER
from fusionlib.recipe import PRESETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]
}
SHOWN = {
    "ours": "ours",
    "ours, to the letter": "letter",
    "Maximum of the two images": "maximum",
    "Laplacian pyramid": "laplacian",
    "SeAFusion": "SeAFusion",
}


def command_lines(command):
    """The arguments of every line of a shell block that begins with this command."""
    blocks = re.findall(r"^```sh\n(.*?)^```", "\n".join(PAGES.values()), re.M | re.S)
    text = "".join(blocks).replace("\\\n", " ")
    found = re.findall(rf"^(?:\w+=\S+ )?(?:\S*python -m )?{command} (.*?)(?:  +#.*)?$", text, re.M)
    return [shlex.split(line, comments=True) for line in found]


def python_blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def test_every_command_line_parses(monkeypatch):
    lines = command_lines("fusionlib")
    assert len(lines) >= 6
    for words in lines:
        _parser().parse_args(spread_auto(words))
    monkeypatch.setattr("paper.__main__.run_command", lambda parser, line: parser.parse_args(line))
    lines = command_lines("paper")
    assert len(lines) >= 2
    for words in lines:
        assert paper.__main__.main(words).preset in ("cpu", "paper")


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:^|`| )make ([a-z-]+)", README, re.M)) <= targets


def test_every_linked_file_and_heading_exists():
    for page, text in PAGES.items():
        for link in re.findall(r"\]\((?!http|\.\./\.\./actions)([^)]+)\)", text):
            name, _, anchor = link.partition("#")
            target = page.parent / name
            assert target.is_file(), (page.name, link)
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.M) if anchor else ()
            assert not anchor or anchor in {h.lower().replace(" ", "-") for h in headings}, link


def test_the_preset_table_is_the_code():
    text = PAGES[ROOT / "docs" / "training.md"]
    rows = re.findall(r"^\| `(\w+)` \| (\d+)² \| (\d+) \|", text, re.M)
    assert [name for name, *_ in rows] == list(PRESETS)
    for name, crop, batch in rows:
        assert (PRESETS[name].crop, PRESETS[name].batch) == (int(crop), int(batch))
    assert f"{PRESETS['cpu'].steps} steps" in text


def test_the_python_examples_run(tmp_path, monkeypatch, capsys):
    """On the mug, and on four drawn scenes in the place of RoadScene."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSIONLIB_DATA", "datasets")
    for kind, name in (("ir", "ir.png"), ("vi", "vi.jpg")):
        Image.open(ROOT / f"data/real/{kind}/mug.png").resize((120, 160)).save(name)
        Path("datasets/RoadScene", kind).mkdir(parents=True)
        for scene in ("dusk_camp", "day_street", "smoke_road", "train_01"):
            shutil.copy(SCENES / kind / f"{scene}.png", f"datasets/RoadScene/{kind}")
    for method in ("ours", "mine"):
        shutil.copytree("datasets/RoadScene/vi", f"results/{method}/RoadScene")
    for text in PAGES.values():
        for block in python_blocks(text):
            exec(block, {})
    assert Image.open("fused.png").size == (120, 160)
    assert "RoadScene" in capsys.readouterr().out


def test_a_method_saved_as_the_documents_say_takes_part_in_the_quick_run(tmp_path):
    """In a copy of both houses, so that the file lies where it is put there."""
    name, block = re.search(
        r"Save this as `(.*?)`.*?^```python\n(.*?)^```", "\n".join(PAGES.values()), re.M | re.S
    ).groups()
    for house in ("fusionlib", "paper"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / house, tmp_path / house, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / name).write_text(block, encoding="utf-8")
    program = """
import numpy as np
from pathlib import Path
from types import SimpleNamespace
from paper.comparison import find_entries
run = SimpleNamespace(preset="quick", weights=Path("none/best.safetensors"), folder=Path)
entries, absent = find_entries(run, None)
print(entries["mine"].title, entries["mine"].fuse(np.zeros((4, 5)), np.ones((4, 5, 3))).mean())
print(*absent)
"""
    (tmp_path / "results").mkdir()
    environment = {"PYTHONPATH": ".", "FUSIONLIB_RESULTS": "results", "FUSIONLIB_WEIGHTS": "none"}
    settings = {"capture_output": True, "text": True, "env": os.environ | environment}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, **settings)
    assert done.returncode == 0, done.stderr
    title, mean, *absent = done.stdout.split()
    assert title == "Mine" and float(mean) == pytest.approx(0.3) and "mine" not in absent


def test_the_counts_are_those_of_the_reference_run():
    counts = pd.read_csv(ROOT / "tables/reference/verdict.csv").set_index(["against", "method"])
    said = re.sub(r"\s+", " ", README)
    numbers, leads = (counts.loc[name] for name in dict.fromkeys(counts.index.get_level_values(0)))
    interval = "(the paper's lies in its 95 % interval)"
    for method, words in (
        ("ours", f"exceeds {{}}, agrees with {{}} {interval} and falls short of {{}}"),
        ("letter", "`letter`: {}, {} and {}."),
    ):
        assert words.format(*numbers.loc[method, ["exceeds", "agrees", "falls short"]]) in said
    reached = leads["reaches"]
    assert f"at least as much in {reached['ours']}, `letter` in {reached['letter']}" in said
    assert f"reaches {numbers.loc['maximum', 'reaches']} of the 30" in said


def test_the_results_are_those_of_the_tables():
    tables = ROOT / "tables" / "reference"
    numbers = pd.read_csv(tables / "numbers.csv").set_index(["method", "dataset", "metric"])
    files = (ROOT / "data" / "paper" / f"table{number}.csv" for number in (1, 2, 3))
    paper = pd.concat(pd.read_csv(file, dtype=str) for file in files)
    paper = paper[paper["method"] == "ours"].set_index("dataset")
    block = re.search("<!-- results -->(.*)<!-- /results -->", README, re.S)[1]
    grid, counts = re.findall(r"(?:^\|.*\|$\n)+", block, re.M)
    shown = []
    for line in grid.splitlines()[2:]:
        head, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        dataset, n = head.split(", n = ")
        for metric, cell in zip(PAPER, cells, strict=True):
            row, reported = numbers.loc["ours", dataset, metric], paper.loc[dataset, metric]
            mean = f"{row['here']:.{len(reported.partition('.')[2])}f}"
            mean = f"**{mean}**" if row["reaches"] == "yes" else mean
            assert cell == f"{mean} ({reported}) {row['verdict'][0].replace('f', 's')}"
            assert int(n) == row["n"]
        shown.append(dataset)
    assert shown == list(paper.index)
    verdict = pd.read_csv(tables / "verdict.csv")
    verdict = verdict[verdict["against"] == "the paper's numbers"].set_index("method")
    lines = counts.splitlines()
    lines = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    assert [SHOWN[title] for title, *_ in lines[2:]] == list(SHOWN.values())
    for title, *found in lines[2:]:
        assert found == verdict.loc[SHOWN[title], lines[0][1:]].astype(str).tolist()
