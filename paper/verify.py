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
from paper.tables import MEASURED, PART, REPORTED, SAME

OF_PIXELS = "grey levels changed"  # a column that comes from the fused images
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
REPORTED_TABLES = {f"table{number}": number for number in (1, 2, 3, 4)}


def verify_tables(repository: Path = REPOSITORY) -> tuple[int, list[str]]:
    """Compute means, intervals, tests and verdicts of the committed tables again.

    Args:
        repository: root of the checkout; verdicts take the reported numbers of this checkout.

    Returns:
        How many cells were compared, and a line for each that differs.

    Raises:
        FusionError: nothing to verify.
    """
    folders = sorted({path.parent for path in (repository / "tables").glob("*/*_values.csv")})
    if not folders:
        raise FusionError(f"{repository}: no per-image values below tables/")
    count, wrong = 0, []
    for folder in folders:
        where = folder.relative_to(repository).as_posix()
        with TemporaryDirectory() as temporary:
            again = Path(temporary)
            wrong += [f"{where}/{text}" for text in _compute_again(folder, again)]
            cells = compare_tables(folder, again)
        cells = cells[cells["column"] != OF_PIXELS]
        count += len(cells)
        for name, found in cells[~(cells["relative"] <= EXACT)].groupby("file"):
            wrong += [f"{where}/{name}{text}" for text in _describe(folder / str(name), found)]
    return count, wrong


def _describe(path: Path, found: pd.DataFrame) -> list[str]:
    """What is wrong with a table whose cells differ from ``committed``, those computed again."""
    if not path.is_file():
        return [" is missing"]
    if found["relative"].isna().any():
        return [": has other rows than its values give"]
    return [
        f": {cell.row}, {cell.column}: {cell.here}, but its sources give {cell.committed}"
        for cell in found.itertuples()
    ]


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
            again = pd.concat(
                [again, part.assign(row=PART), part.assign(row=SAME, mean=part["ours"])]
            )
        for name in source.means:
            if (folder / f"{name}.csv").is_file():
                means = _means_again(folder / f"{name}.csv", again)
                means.to_csv(target / f"{name}.csv", index=False)
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
    keys = ["row", "dataset", "method"]
    counts = again.groupby(keys)["n"].first()
    sources = [again.pivot(index=keys, columns="metric", values="mean").assign(n=counts)]
    if path.stem in REPORTED_TABLES:
        reported = read_reported(REPORTED_TABLES[path.stem]).assign(row=REPORTED)
        sources.append(reported.set_index(keys))
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    kinds = table["row"] if "row" in table else [MEASURED] * len(table)
    rows = pd.MultiIndex.from_arrays([kinds, table["dataset"], table["method"]])
    again = pd.concat(sources)
    again = again.reindex(index=rows, columns=[c for c in table if c in {"n", *again, *METRICS}])
    texts = [c for c in table if c in ("dataset", "method", "row")]
    again = again.assign(n=pd.array(again["n"], dtype="Int64")).reset_index(drop=True)
    return again.join(table[texts])[[c for c in table if c in {*again, *texts}]]
