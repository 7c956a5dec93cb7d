"""Whether results agree with the committed ones: numbers by their digits, pictures by grey levels.

Another processor, thread count or torch version changes the last digits of a number; so a
difference is told, never an error.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fusionlib.evaluation import ORIGIN
from fusionlib.files import REPOSITORY
from paper.ablation import FEATURES, VARIANTS
from paper.reported import OWN
from paper.run import Run

# columns that name a row, with all columns before them; in tables without any the first one does
LABELS = ("dataset", "name", "method", "rival", "metric", "row", "variant", "against")
COLUMNS = ["file", "row", "column", "here", "committed", "relative"]
EQUAL, CLOSE = 5e-7, 5e-5  # relative; up to these six and four digits agree
TINY = 1e-3  # grey levels; below, a picture is the same to every eye


def compare_run(run: Run, repository: Path = REPOSITORY) -> list[str]:
    """Compare the figures and tables below ``run.out_dir`` with the committed ones of their kind.

    Where data, weights, encoder or preset are not those of the committed results, only the values
    of single images count that are in both; of other weights those of other methods than ours.

    Returns:
        Two sentences: on numbers, and on pictures.
    """
    kind = "synthetic" if run.is_synthetic else "reference"
    doubts = {
        "other weights or another encoder, so only other methods": not run.is_shipped,
        "a few pairs of each dataset": run.preset == "quick" and not run.is_synthetic,
        f"preset {run.preset}, committed quick": run.preset != "quick" and run.is_synthetic,
    }
    why = "; ".join(text for text, applies in doubts.items() if applies)
    without = set() if run.is_shipped else {*OWN, *VARIANTS, *FEATURES}
    if run.label == "quick":  # of few pairs each has another neighbour than among all
        without.add("other_image")
    pattern = "*_values.csv" if why else "*.csv"
    cells = compare_tables(run.tables(), repository / "tables" / kind, pattern, without)
    committed = repository / "figures" / kind
    pictures = compare_pictures(run.image_figures(), committed) if not why else {}
    why = f"{why}; only values of single images: " if why else ""
    return [why + _on_numbers(cells, kind), _on_pictures(pictures, kind)]


def _on_numbers(cells: pd.DataFrame, kind: str) -> str:
    cells = cells.dropna(subset="committed")
    lacking, cells = int(cells["here"].isna().sum()), cells.dropna(subset="here")
    if cells.empty:
        return f"nothing here has a counterpart in tables/{kind}"
    text = f"{len(cells):,} numbers and texts here have a counterpart in tables/{kind}"
    text += f"; {lacking:,} committed ones have none" if lacking else ""
    is_close, is_text = cells["relative"] <= CLOSE, np.isinf(cells["relative"])
    is_equal = cells["relative"] <= EQUAL
    text += f": {is_equal.sum():,} agree to 6 digits, {(is_close & ~is_equal).sum():,} to 4"
    differing = cells[~is_close & ~is_text]
    if len(differing):
        worst = differing.loc[differing["relative"].idxmax()]
        text += (
            f", {len(differing):,} differ, at most by {100 * worst['relative']:.2g} % "
            f"({worst['file']}, {worst['row']}, {worst['column']}: {worst['here']}, "
            f"committed {worst['committed']})"
        )
    return text + (f", {is_text.sum():,} texts differ" if is_text.any() else "")


def _on_pictures(pictures: dict[str, float], kind: str) -> str:
    if not pictures:
        return f"no picture here has a counterpart in figures/{kind}"
    same = sum(levels <= TINY for levels in pictures.values())
    text = f"{same} of {len(pictures)} pictures are the same"
    if same < len(pictures):
        name = max(pictures, key=pictures.get)
        by = f"{pictures[name]:.2g} grey levels in the mean"
        text += f"; most differs {name}, {by if np.isfinite(pictures[name]) else 'of another size'}"
    return text


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
        Columns `COLUMNS`, the cells as text. A cell that is in one folder alone is missing in the
        other, and has no ``relative``, |a − b| / max(|a|, |b|), which of unlike texts is infinite.
    """
    found = [pd.DataFrame(columns=COLUMNS)]
    for path in sorted(committed.glob(pattern)):
        both = [_cells(folder / path.name, without) for folder in (here, committed)]
        frame = pd.concat(both, axis=1, keys=["here", "committed"]).reset_index()
        found.append(frame.assign(file=path.name))
    cells = pd.concat(found, ignore_index=True)
    one, other = (pd.to_numeric(cells[key], errors="coerce") for key in ("here", "committed"))
    relative = (one - other).abs() / np.maximum(one.abs(), other.abs())
    relative = relative.fillna(np.inf).mask(cells["here"] == cells["committed"], 0.0)
    cells["relative"] = relative.mask(cells[["here", "committed"]].isna().any(axis=1))
    return cells


def _cells(path: Path, without: Collection[str]) -> pd.Series:
    """Cells of a CSV file that are no part of a row's name, as text; index row and column."""
    if not path.is_file():
        return pd.Series(dtype=str, index=pd.MultiIndex.from_arrays([[], []], names=COLUMNS[1:3]))
    frame = pd.read_csv(path, dtype=str, keep_default_na=False).drop(
        columns=ORIGIN, errors="ignore"
    )
    if without:
        frame = frame[~frame["method"].isin(list(without))]
    last = max((i for i, name in enumerate(frame) if name in LABELS), default=0)
    labels = frame.columns[: last + 1]
    row = pd.Series([", ".join(texts) for texts in frame[labels].to_numpy()], frame.index, str)
    again = row.groupby(row).cumcount()
    row = row.where(again == 0, row + " " + again.astype(str))  # the same name once more
    cells = frame.drop(columns=labels).set_index(row.rename("row"))
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
