"""Whether results agree with the committed ones: numbers by their digits, pictures by grey levels.

Another processor, thread count or torch version changes the last digits of a number; so a
difference is told, never an error.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fusionlib.files import REPOSITORY
from paper.ablation import FEATURES, VARIANTS
from paper.pipeline import read_json
from paper.reported import OWN
from paper.run import Run

ORIGIN = ("files", "reason")  # of values: which bytes they came from is no result
DIGITS = {6: 5e-7, 4: 5e-5}  # so many digits agree up to this relative difference
COLUMNS = ["file", "row", "column", "here", "committed", "relative"]
TINY = 1e-3  # grey levels; below, a picture is the same to every eye


@dataclass(frozen=True)
class Agreement:
    """What was found.

    Attributes:
        against: folder of the committed results, such as ``synthetic``.
        doubts: why only per-image values, or only those of other methods, can be compared.
        cells: columns `COLUMNS`, a row for each cell that is in both; ``relative`` is 0 where
            equal, infinite for texts that differ.
        lacking: committed cells without a counterpart here.
        pictures: name → mean absolute difference in grey levels; infinite if the size differs.
    """

    against: str
    doubts: list[str]
    cells: pd.DataFrame
    lacking: int
    pictures: dict[str, float]

    def lines(self) -> list[str]:
        """Two sentences: on the numbers, and on the pictures."""
        why = f"{'; '.join(self.doubts)}; so only values of single images: " if self.doubts else ""
        return [why + self._on_numbers(), self._on_pictures()]

    def _on_numbers(self) -> str:
        relative, total = self.cells["relative"], len(self.cells)
        if not total:
            return f"nothing here has a counterpart in tables/{self.against}"
        texts, said, above = int(np.isinf(relative).sum()), [], -1.0
        for digits, limit in DIGITS.items():
            if count := int(((relative > above) & (relative <= limit)).sum()):
                said.append(f"{count:,} agree to {digits} digits")
            above = limit
        differing = self.cells[(relative > above) & ~np.isinf(relative)]
        if len(differing):
            worst = differing.loc[differing["relative"].idxmax()]
            said.append(
                f"{len(differing):,} differ, at most by {100 * worst['relative']:.2g} % "
                f"({worst['file']}, {worst['row']}, {worst['column']}: {worst['here']}, "
                f"committed {worst['committed']})"
            )
        said += [f"{texts:,} texts differ"] if texts else []
        lacking = f"; {self.lacking:,} committed ones have none" if self.lacking else ""
        return (
            f"{total:,} numbers and texts here have a counterpart in tables/{self.against}"
            f"{lacking}: {', '.join(said)}"
        )

    def _on_pictures(self) -> str:
        if not self.pictures:
            return f"no picture here has a counterpart in figures/{self.against}"
        others = {name: by for name, by in self.pictures.items() if by > TINY}
        shown = (f"{name} {by:.2g}" if np.isfinite(by) else f"{name} (another size)"
                 for name, by in sorted(others.items(), key=lambda item: -item[1]))  # fmt: skip
        return (
            f"{len(self.pictures) - len(others)} of {len(self.pictures)} pictures are the same"
            + (
                f"; grey levels between the others, in the mean: {', '.join(shown)}"
                if others
                else ""
            )
        )


def compare_run(run: Run, repository: Path = REPOSITORY) -> Agreement:
    """Compare the figures and tables below ``run.out_dir`` with the committed ones of their kind.

    Tables and pictures count where data, weights, encoder and preset are those of the committed
    results; else the values of single images that are in both, of other weights those of other
    methods than ours.
    """
    against = "synthetic" if run.is_synthetic else "reference"
    committed, doubts = repository / "tables" / against, []
    if run.label == "own":
        doubts.append("other weights or another encoder than committed: methods of others alone")
    if run.label == "quick":
        doubts.append("a few pairs of each dataset")
    steps = read_json(committed / "provenance.json").get("steps", {}).values()
    presets = {found[1] for step in steps if (found := re.search(r"--preset (\w+)", str(step)))}
    if presets - {run.preset}:
        doubts.append(f"preset {run.preset}, committed {', '.join(sorted(presets))}")
    others_only = {*OWN, *VARIANTS, *FEATURES} if run.label == "own" else ()
    pattern = "*_values.csv" if doubts else "*.csv"
    cells = compare_tables(run.tables(), committed, pattern, others_only)
    cells = cells.dropna(subset="committed")
    is_lacking = cells["here"].isna()
    folders = run.image_figures(), repository / "figures" / against
    pictures = {} if doubts or not run.is_synthetic else compare_pictures(*folders)
    return Agreement(against, doubts, cells[~is_lacking], int(is_lacking.sum()), pictures)


def compare_tables(
    here: Path, committed: Path, pattern: str = "*.csv", without: Collection[str] = ()
) -> pd.DataFrame:
    """Compare CSV files of one name cell by cell.

    Args:
        here: folder.
        committed: folder whose files are looked for in ``here``.
        pattern: which of them.
        without: methods whose rows are left out.

    Returns:
        Columns `COLUMNS`. A row is named by its leading texts; a cell that is in one folder alone
        is missing in the other, and has no ``relative``, |a − b| / max(|a|, |b|).
    """
    found = []
    for path in sorted(committed.glob(pattern)):
        both = [_cells(folder / path.name, without) for folder in (here, committed)]
        frame = pd.concat(both, axis=1, keys=["here", "committed"]).reset_index()
        found.append(frame.assign(file=path.name))
    cells = pd.concat([pd.DataFrame(columns=COLUMNS), *found])
    one, other = (pd.to_numeric(cells[key], errors="coerce") for key in ("here", "committed"))
    relative = (one - other).abs() / np.maximum(one.abs(), other.abs())
    relative = relative.fillna(np.inf).mask(cells["here"] == cells["committed"], 0.0)
    cells["relative"] = relative.mask(cells[["here", "committed"]].isna().any(axis=1))
    return cells.reset_index(drop=True)


def _cells(path: Path, without: Collection[str]) -> pd.Series:
    """Cells of a CSV file that are no part of a row's name; index row and column."""
    empty = pd.Series(dtype=object, index=pd.MultiIndex.from_tuples([], names=["row", "column"]))
    if not path.is_file():
        return empty
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""], float_precision="round_trip")
    frame = frame.drop(columns=list(ORIGIN), errors="ignore")
    frame = frame[~frame["method"].isin(list(without))] if without else frame
    if frame.empty:
        return empty
    is_float = [pd.api.types.is_float_dtype(kind) and frame[name].notna().any()
                for name, kind in frame.dtypes.items()]  # fmt: skip
    leading = frame.columns[: [*is_float, True].index(True)]
    is_text = [not pd.api.types.is_any_real_numeric_dtype(frame[name]) for name in leading]
    count = max((i + 1 for i, text in enumerate(is_text) if text), default=1)
    keys = list(leading[: 1 if count == frame.shape[1] else count])
    row = frame[keys].astype(str).agg(", ".join, axis=1)
    again = row.groupby(row).cumcount()
    row = row.where(again == 0, row + " " + again.astype(str))  # the same name once more
    cells = frame.drop(columns=keys).astype(object)
    cells = cells.where(cells.notna(), "").set_axis(row.rename("row"))
    return cells.rename_axis(columns="column").stack()


def compare_pictures(here: Path, committed: Path) -> dict[str, float]:
    """Mean absolute difference, in grey levels, of the PNG files that are in both folders."""
    found = {}
    for path in sorted(committed.glob("*.png")):
        if (here / path.name).is_file():
            one, other = (np.asarray(Image.open(folder / path.name).convert("RGB"), dtype=float)
                          for folder in (here, committed))  # fmt: skip
            is_alike = one.shape == other.shape
            found[path.name] = float(np.abs(one - other).mean()) if is_alike else np.inf
    return found
