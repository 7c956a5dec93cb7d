"""``python -m fusionlib paper --verify``: committed tables, computed again from their values."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fusionlib import claims
from fusionlib.baselines.reported import read_reported
from fusionlib.datasets import REPOSITORY
from fusionlib.errors import FusionError
from fusionlib.metrics import METRICS, PAPER
from fusionlib.statistics import summarise
from fusionlib.tables import read_values

RELATIVE = 1e-12  # a mean may be summed in another order


@dataclass(frozen=True)
class Source:
    """Per-image values and what was computed from them.

    Attributes:
        ours: the method the tests are against.
        statistics: the table of `fusionlib.statistics.summarise`.
        means: tables of means over the images.
    """

    ours: str
    statistics: str
    means: tuple[str, ...]


SOURCES = {
    "compare_values": Source("ours", "statistics", ("compare", "table1", "table2")),
    "generalise_values": Source("ours", "generalise_statistics", ("table3",)),
    "table4_values": Source("full", "table4_statistics", ("table4",)),
    "seeds_values": Source("full", "seeds_statistics", ()),
    "encoder_values": Source("real", "encoder_statistics", ("encoder",)),
}
REPORTED = {f"table{number}": number for number in (1, 2, 3, 4)}


def verify_tables(repository: Path = REPOSITORY) -> tuple[int, list[str]]:
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
        for found, problems in (_verify_values(folder), _verify_numbers(folder)):
            count += found
            wrong += [f"{folder.relative_to(repository).as_posix()}/{text}" for text in problems]
    return count, wrong


def _verify_values(folder: Path) -> tuple[int, list[str]]:
    count, wrong = 0, []
    for path in sorted(folder.glob("*_values.csv")):
        source = SOURCES.get(path.stem)
        if source is None:
            wrong.append(f"{path.name}: no table is known to come from it (fusionlib/verify.py)")
            continue
        values = read_values(path)
        again = summarise(values, ours=source.ours)
        results = [_verify_statistics(folder / f"{source.statistics}.csv", again)]
        results += [_verify_means(folder / f"{name}.csv", again) for name in source.means
                    if (folder / f"{name}.csv").is_file()]  # fmt: skip
        for found, problems in results:
            count += found
            wrong += problems
    return count, wrong


def _verify_statistics(path: Path, again: pd.DataFrame) -> tuple[int, list[str]]:
    if not path.is_file():
        return 0, [f"{path.name} is missing"]
    keys, numbers = ["dataset", "metric", "method"], ["n", "mean", "low", "high", "rank", "p"]
    stands = pd.read_csv(path, keep_default_na=False, na_values={c: [""] for c in numbers},
                         float_precision="round_trip").set_index(keys)  # fmt: skip
    expected = again.set_index(keys)
    if set(stands.index) != set(expected.index):
        return 0, [f"{path.name}: has other rows than there are values for"]
    expected = expected.loc[stands.index]
    wrong = [
        f"{path.name}: {', '.join(key)}, {column}: {stands.at[key, column]}, but its values give "
        f"{expected.at[key, column]}"
        for column in numbers
        for key in stands.index
        if not _same(stands.at[key, column], expected.at[key, column])
    ]
    return len(stands) * len(numbers), wrong


def _verify_means(path: Path, again: pd.DataFrame) -> tuple[int, list[str]]:
    """A table of means: measured rows against the values, reported ones against data/paper."""
    table = pd.read_csv(path, keep_default_na=False, na_values=[""], float_precision="round_trip")
    measured = again.set_index(["dataset", "metric", "method"])
    reported = read_reported(REPORTED[path.stem]) if path.stem in REPORTED else None
    count, wrong = 0, []
    for row in table.to_dict("records"):
        where = row["dataset"], row["method"]
        is_reported = row.get("row") == "reported"
        for metric in (name for name in table if name in METRICS):
            key = (where[0], metric, where[1])
            if is_reported:
                line = reported[(reported[["dataset", "method"]] == list(where)).all(axis=1)]
                expected = line[metric].item() if len(line) and metric in PAPER else None
            else:
                expected = measured.at[key, "mean"] if key in measured.index else None
            count += 1
            if expected is None or not _same(row[metric], expected):
                source = "data/paper gives" if is_reported else "its values give"
                wrong.append(
                    f"{path.name}: {', '.join(key)}: {row[metric]}, but {source} {expected}"
                )
        if not is_reported and not (measured.xs(where, level=(0, 2))["n"] == row["n"]).all():
            wrong.append(f"{path.name}: {', '.join(where)}: n is {row['n']}")
    return count, wrong


def _verify_numbers(folder: Path) -> tuple[int, list[str]]:
    """The verdicts on the paper's numbers, from the statistics beside them."""
    path = folder / "numbers.csv"
    if not path.is_file():
        return 0, []
    again = claims.judge_numbers(claims.read_statistics(folder))
    empty = {name: [""] for name in ("paper", "ours", "low", "high")}
    stands = pd.read_csv(path, keep_default_na=False, na_values=empty, float_precision="round_trip")
    if len(stands) != len(again):
        return 0, [f"{path.name}: has {len(stands)} rows, expected {len(again)}"]
    wrong = [
        f"{path.name}, row {i + 1}: {column} is {stands.at[i, column]!r}, expected "
        f"{again.at[i, column]!r}"
        for i in again.index
        for column in claims.NUMBERS
        if not _same(stands.at[i, column], again.at[i, column])
    ]
    return again.size, wrong


def _same(stands: object, expected: object) -> bool:
    if isinstance(expected, str):
        return stands == expected
    if pd.isna(stands) or pd.isna(expected):
        return bool(pd.isna(stands) and pd.isna(expected))
    return bool(np.isclose(stands, expected, rtol=RELATIVE, atol=0))
