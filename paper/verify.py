"""``python -m paper --verify``: committed tables, computed again from their values."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fusionlib.errors import FusionError
from fusionlib.evaluation import read_values
from fusionlib.files import REPOSITORY
from fusionlib.metrics import METRICS
from fusionlib.statistics import summarise
from fusionlib.weights import SHIPPED, load_weights
from paper import claims, verdicts
from paper.paper_tables import MEASURED, REPORTED
from paper.reported import OURS, read_reported
from paper.verdicts import KEYS

RELATIVE = 1e-12  # a mean may be summed in another order


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

Found = tuple[int, list[str]]  # numbers compared; a line for each that differs


def verify_tables(repository: Path = REPOSITORY) -> Found:
    """Compute means, intervals, tests and verdicts again, and compare them with the tables.

    Args:
        repository: root of the checkout.

    Returns:
        How many numbers were compared, and a line for each that differs.

    Raises:
        FusionError: there are no per-image values.
    """
    folders = sorted({path.parent for path in repository.glob("tables/*/*_values.csv")})
    if not folders:
        raise FusionError(f"{repository / 'tables'}: no per-image values; run `make paper` first")
    count, wrong = 0, []
    for folder in folders:
        for found, problems in _verify_folder(folder):
            count += found
            wrong += [f"{folder.relative_to(repository).as_posix()}/{text}" for text in problems]
    return count, wrong


def _verify_folder(folder: Path) -> list[Found]:
    results, frames = [], {}
    for path in sorted(folder.glob("*_values.csv")):
        if path.stem not in SOURCES:
            results.append((0, [f"{path.name}: no table is known to come from it"]))
            continue
        source = SOURCES[path.stem]
        frames[path.stem] = read_values(path)
        again = summarise(frames[path.stem], ours=source.ours)
        if source.statistics:
            frames[source.statistics] = again
            results.append(_compare(folder / f"{source.statistics}.csv", again.set_index(KEYS)))
        means = (folder / f"{name}.csv" for name in source.means)
        results += [_verify_means(path, again) for path in means if path.is_file()]
    return results + (_verify_verdicts(folder, frames) if (folder / "claims.csv").is_file() else [])


def _verify_verdicts(folder: Path, frames: verdicts.Frames) -> list[Found]:
    if missing := [name for name in claims.FILES if name not in frames]:
        return [(0, [f"claims.csv: nothing to compute it from: no {', '.join(missing)}"])]
    encoder = load_weights(SHIPPED).encoder_title
    relative = verdicts.judge_relative(frames)
    numbers = verdicts.judge_numbers(frames).set_index(["method", "dataset", "metric"])
    leads = relative.set_index(["method", "rival", "dataset", "metric"])
    judged = claims.judge_claims(frames, encoder).set_index("claim")
    overview = verdicts.overview(frames, relative)
    again = {"verdict": overview, "numbers": numbers, "relative": leads, "claims": judged}
    return [_compare(folder / f"{name}.csv", found) for name, found in again.items()]


def _verify_means(path: Path, again: pd.DataFrame) -> Found:
    """A table of means: measured rows against the values, reported ones against data/paper."""
    keys = ["dataset", "method"]
    sources = {MEASURED: again.pivot(index=keys, columns="metric", values="mean")}
    sources[MEASURED]["n"] = again.groupby(keys)["n"].first()
    if path.stem in REPORTED_TABLES:
        sources[REPORTED] = read_reported(REPORTED_TABLES[path.stem]).set_index(keys)
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    kinds = table["row"] if "row" in table else [MEASURED] * len(table)
    rows = pd.MultiIndex.from_arrays([kinds, table["dataset"], table["method"]])
    columns = [name for name in table if name in {"n", *again["metric"], *METRICS}]
    expected = pd.concat(sources, names=["row"]).reindex(index=rows, columns=columns)  # or empty
    return _differences(path, table.set_index(rows)[columns], expected)


def _compare(path: Path, again: pd.DataFrame) -> Found:
    """A table against the same one computed again, row by row; columns of text included."""
    if not path.is_file():
        return 0, [f"{path.name} is missing"]
    empty = {name: [""] for name in again.select_dtypes("number")}
    stands = pd.read_csv(path, keep_default_na=False, na_values=empty).set_index(again.index.names)
    if set(stands.index) != set(again.index):
        return 0, [f"{path.name}: has other rows than its values give"]
    return _differences(path, stands, again)


def _differences(path: Path, stands: pd.DataFrame, again: pd.DataFrame) -> Found:
    if stands.index.has_duplicates:
        return 0, [f"{path.name}: has a row twice"]
    wrong = [
        f"{path.name}: {', '.join(np.atleast_1d(key))}, {column}: {stands.at[key, column]}, but "
        f"its sources give {again.at[key, column]}"
        for column in again
        for key in again.index
        if not _same(stands.at[key, column], again.at[key, column])
    ]
    return again.size, wrong


def _same(stands: object, expected: object) -> bool:
    if isinstance(expected, str) or pd.isna(stands) or pd.isna(expected):
        return stands == expected or bool(pd.isna(stands) and pd.isna(expected))
    return bool(np.isclose(stands, expected, rtol=RELATIVE, atol=0))
