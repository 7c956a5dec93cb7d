"""``python -m paper --verify``: committed tables against the same computed again from their values.

What the per-image values give is written to a temporary folder, and the files are compared.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pandas as pd

from fusionlib.errors import FusionError
from fusionlib.evaluation import read_values
from fusionlib.files import REPOSITORY
from fusionlib.metrics import METRICS
from fusionlib.statistics import summarise
from fusionlib.weights import SHIPPED, load_weights
from paper import claims, comparison
from paper.agreement import compare_tables
from paper.reported import OURS, read_reported
from paper.tables import LABELS, MEASURED, PART, REPORTED, SAME

OF_PIXELS = "grey levels changed"  # a column that comes from the fused images
MOST = 5  # lines on one file
EXACT = 1e-12  # relative; a mean may be summed in another order


class Source(NamedTuple):
    """What was computed from a file of per-image values."""

    statistics: str  # the table of `fusionlib.statistics.summarise`, if there is one
    means: tuple[str, ...] = ()  # tables of means over the images
    ours: str = OURS  # the method the tests are against


SOURCES = {
    "compare_values": Source("statistics", ("compare", "table1", "table2")),
    "generalise_values": Source("generalise_statistics", ("table3",)),
    "brightness_values": Source("", ("brightness",)),
    "generalise_brightness_values": Source("", ("generalise_brightness",)),
    "table4_values": Source("table4_statistics", ("table4",)),
    "seeds_values": Source("seeds_statistics"),
    "encoder_values": Source("encoder_statistics", ("encoder",), ours="real"),
    "encoder_letter_values": Source("encoder_letter_statistics", ("encoder_letter",), ours="real"),
}


def verify_tables(repository: Path = REPOSITORY) -> tuple[int, list[str]]:
    """Compute means, intervals, tests and verdicts of the committed tables again.

    Args:
        repository: root of the checkout; verdicts take the reported numbers of this checkout.

    Returns:
        How many cells were compared, and lines on those that differ or are missing.

    Raises:
        FusionError: nothing to verify.
    """
    folders = sorted({path.parent for path in (repository / "tables").glob("*/*_values.csv")})
    if not folders:
        raise FusionError(f"{repository}: no per-image values below tables/")
    count, wrong = 0, []
    for folder in folders:
        with TemporaryDirectory() as temporary:
            found = list(_compute_again(folder, Path(temporary)))
            cells = compare_tables(folder, Path(temporary))
        cells = cells[cells["column"] != OF_PIXELS]
        count += len(cells)
        cells = cells[~(cells["relative"] <= EXACT)].groupby("file").head(MOST)
        found += [
            f"{cell.file}: {cell.row}, {cell.column}: {cell.here}, but its sources give "
            f"{cell.committed}"
            for cell in cells.itertuples()
        ]
        wrong += [f"{folder.relative_to(repository).as_posix()}/{text}" for text in found]
    return count, wrong


def _compute_again(folder: Path, target: Path) -> Iterator[str]:
    """Write the tables that the values of a folder give; yields what cannot be computed."""
    frames = {}
    for path in sorted(folder.glob("*_values.csv")):
        if path.stem not in SOURCES:
            yield f"{path.name}: no table is known to come from it"
            continue
        source = SOURCES[path.stem]
        frames[path.stem] = read_values(path)
        again = summarise(frames[path.stem], ours=source.ours)
        if source.statistics:
            frames[source.statistics] = again
            again.to_csv(target / f"{source.statistics}.csv", index=False)
        again, parts = again.assign(row=MEASURED), folder / path.name.replace("_values", "_parts")
        if parts.is_file():
            part = comparison.summarise_parts(read_values(parts), frames[path.stem])
            same = part.assign(row=SAME, mean=part["ours"])
            again = pd.concat([again, part.assign(row=PART), same])
        for table in (folder / f"{name}.csv" for name in source.means):
            if table.is_file():
                _means_again(table, again).to_csv(target / table.name, index=False)
    if not (folder / "claims.csv").is_file():
        return
    if missing := [name for name in claims.FILES if name not in frames]:
        yield f"claims.csv: nothing to compute it from: no {', '.join(missing)}"
        return
    encoder, relative = load_weights(SHIPPED).encoder_title, claims.judge_relative(frames)
    claims.overview(frames, relative).to_csv(target / "verdict.csv")
    claims.judge_numbers(frames).to_csv(target / "numbers.csv", index=False)
    relative.to_csv(target / "relative.csv", index=False)
    claims.judge_claims(frames, encoder).to_csv(target / "claims.csv", index=False)


def _means_again(path: Path, again: pd.DataFrame) -> pd.DataFrame:
    """Its rows anew: measured ones from the values, reported ones from data/paper, others empty."""
    again = again.pivot(index=[*LABELS, "n"], columns="metric", values="mean").reset_index("n")
    if path.stem[:-1] == "table":
        reported = read_reported(int(path.stem[-1])).assign(row=REPORTED)
        again = pd.concat([again, reported.set_index(LABELS)])
    table = pd.read_csv(path)
    rows = pd.MultiIndex.from_frame(table.assign(row=table.get("row", MEASURED))[LABELS])
    numbers = [name for name in table if name in {"n", *again, *METRICS}]
    return table.assign(**again.reindex(rows, columns=numbers).set_index(table.index))
