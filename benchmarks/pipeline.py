"""Seconds that each notebook of the paper took when it was last run.

    make paper && python benchmarks/pipeline.py   # Markdown to the terminal, CSV beside this file

Nothing is run here: the times are those that ``python -m fusionlib paper`` notes beside each
notebook in ``runs/``, with the start of its kernel.
"""

import argparse
import json
from pathlib import Path

from results import show, write

from paper.pipeline import ROOT, find_notebooks

HEADER = ("notebook", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "quick", help="its folder")
    options = parser.parse_args()
    names = [path.stem for path in find_notebooks(ROOT / "notebooks")]
    records = {name: options.run / "notebooks" / f"{name}.json" for name in names}
    absent = [name for name, record in records.items() if not record.is_file()]
    if absent:
        print(f"{options.run} has no complete run of {', '.join(absent)}: run `make paper` first")
        return
    seconds = {
        name: json.loads(record.read_text(encoding="utf-8"))["seconds"]
        for name, record in records.items()
    }
    rows = [(name, f"{s:.1f}") for name, s in (seconds | {"all": sum(seconds.values())}).items()]
    show(HEADER, rows)
    write(__file__, HEADER, rows)


if __name__ == "__main__":
    main()
