"""What the benchmarks end with: a Markdown table in the terminal, and the same as CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

Row = Sequence[str]


def show(header: Row, rows: Sequence[Row]) -> None:
    """Print a table; its first column is text, the others are numbers."""
    print("| " + " | ".join(header) + " |\n| --- |" + " ---: |" * (len(header) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def write(script: str, header: Row, rows: Sequence[Row]) -> None:
    """Write a table beside the script that made it, ``<name>.csv``."""
    with Path(script).with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
