"""Whether results agree with the committed ones: numbers by their digits, pictures by grey levels.

Another processor, thread count or torch version changes the last digits of a number; so a
difference is told, never an error.
"""

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fusionlib.files import REPOSITORY, file_sha256
from paper.ablation import FEATURES, VARIANTS
from paper.pipeline import read_json
from paper.reported import OWN
from paper.run import Run

ORIGIN = ("files", "reason")  # of values: which bytes they came from is no result
DIGITS = {6: 5e-7, 4: 5e-5}  # so many digits agree up to this relative difference
COLUMNS = ["file", "row", "column", "here", "committed", "relative"]
TINY = 1e-3  # grey levels; below, a picture is the same to every eye


def compare_run(run: Run, repository: Path = REPOSITORY) -> list[str]:
    """Compare the figures and tables below ``run.out_dir`` with the committed ones of their kind.

    Where data, weights, encoder or preset are not those of the committed results, only the values
    of single images count that are in both; of other weights those of other methods than ours.

    Returns:
        Two sentences: on numbers, and on pictures.
    """
    kind = "synthetic" if run.is_synthetic else "reference"
    committed = repository / "tables" / kind
    steps = read_json(committed / "provenance.json").get("steps", {}).values()
    presets = {found[1] for step in steps if (found := re.search(r"--preset (\w+)", str(step)))}
    used = {step["weights"]["sha256"] for step in steps if "weights" in step}
    is_other = run.label == "own" or bool(used - {file_sha256(run.weights)})
    doubts = {
        "other weights or another encoder, so only other methods": is_other,
        "a few pairs of each dataset": run.label == "quick",
        f"preset {run.preset}, committed {', '.join(sorted(presets))}": presets - {run.preset},
    }
    why = "; ".join(text for text, applies in doubts.items() if applies)
    without = {*OWN, *VARIANTS, *FEATURES} if is_other else set()
    if run.label == "quick":  # of few pairs each has another neighbour than among all
        without.add("other_image")
    cells = compare_tables(run.tables(), committed, "*_values.csv" if why else "*.csv", without)
    pictures = None
    if run.is_synthetic and not why:
        pictures = compare_pictures(run.image_figures(), repository / "figures" / kind)
    why = f"{why}; only values of single images: " if why else ""
    return [f"{why}{_on_numbers(cells, kind)}", _on_pictures(pictures, kind)]


def _on_numbers(cells: pd.DataFrame, kind: str) -> str:
    cells = cells.dropna(subset="committed")
    lacking, cells = int(cells["here"].isna().sum()), cells.dropna(subset="here")
    if cells.empty:
        return f"nothing here has a counterpart in tables/{kind}"
    relative, said, above = cells["relative"], [], -1.0
    for digits, limit in DIGITS.items():
        if count := int(((relative > above) & (relative <= limit)).sum()):
            said.append(f"{count:,} agree to {digits} digits")
        above = limit
    differing = cells[(relative > above) & ~np.isinf(relative)]
    if len(differing):
        worst = differing.loc[differing["relative"].idxmax()]
        said.append(
            f"{len(differing):,} differ, at most by {100 * worst['relative']:.2g} % "
            f"({worst['file']}, {worst['row']}, {worst['column']}: {worst['here']}, "
            f"committed {worst['committed']})"
        )
    if texts := int(np.isinf(relative).sum()):
        said.append(f"{texts:,} texts differ")
    without = f"; {lacking:,} committed ones have none" if lacking else ""
    return (
        f"{len(cells):,} numbers and texts here have a counterpart in tables/{kind}{without}: "
        f"{', '.join(said)}"
    )


def _on_pictures(pictures: dict[str, float] | None, kind: str) -> str:
    if not pictures:
        return f"no picture here has a counterpart in figures/{kind}"
    others = sorted((-by, name) for name, by in pictures.items() if by > TINY)
    shown = ", ".join(
        f"{name} {-by:.2g}" if np.isfinite(by) else f"{name} (another size)" for by, name in others
    )
    same = f"{len(pictures) - len(others)} of {len(pictures)} pictures are the same"
    return f"{same}; grey levels between the others, in the mean: {shown}" if others else same


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
