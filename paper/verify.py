"""``python -m fusionlib paper --verify``: committed tables, computed again from their values."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fusionlib.errors import FusionError
from fusionlib.evaluation import read_values
from fusionlib.files import REPOSITORY
from fusionlib.metrics import METRICS
from fusionlib.statistics import summarise
from fusionlib.weights import SHIPPED, load_weights
from paper import claims, verdicts
from paper.ablation import NOT_TRAINED
from paper.reported import OURS, read_reported
from paper.verdicts import KEYS

RELATIVE = 1e-12  # a mean may be summed in another order


@dataclass(frozen=True)
class Source:
    """Per-image values and what was computed from them.

    Attributes:
        statistics: the table of `fusionlib.statistics.summarise`; empty if there is none.
        means: tables of means over the images.
        ours: the method the tests are against.
    """

    statistics: str
    means: tuple[str, ...] = ()
    ours: str = OURS


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
REPORTED = {f"table{number}": number for number in (1, 2, 3, 4)}

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
        source = SOURCES.get(path.stem)
        if source is None:
            wrong = f"{path.name}: no table is known to come from it (paper/verify.py)"
            results.append((0, [wrong]))
            continue
        frames[path.stem] = read_values(path)
        again = summarise(frames[path.stem], ours=source.ours)
        if source.statistics:
            frames[source.statistics] = again
            results.append(_verify_frame(folder / f"{source.statistics}.csv", again, KEYS))
        results += [_verify_means(folder / f"{name}.csv", again) for name in source.means
                    if (folder / f"{name}.csv").is_file()]  # fmt: skip
    return results + (_verify_verdicts(folder, frames) if (folder / "claims.csv").is_file() else [])


def _verify_verdicts(folder: Path, frames: verdicts.Frames) -> list[Found]:
    if missing := [name for name in claims.FILES if name not in frames]:
        return [(0, [f"claims.csv: nothing to compute it from: no {', '.join(missing)}"])]
    encoder = load_weights(SHIPPED).encoder_title
    relative = verdicts.judge_relative(frames)
    overview = verdicts.overview(frames, relative).reset_index()
    again = {
        "verdict": (overview, ["against", "method"]),
        "numbers": (verdicts.judge_numbers(frames), ["method", "dataset", "metric"]),
        "relative": (relative, ["method", "rival", "dataset", "metric"]),
        "claims": (claims.judge_claims(frames, encoder), ["claim"]),
    }
    return [_verify_frame(folder / f"{name}.csv", *found) for name, found in again.items()]


def _verify_frame(path: Path, again: pd.DataFrame, keys: list[str]) -> Found:
    """A table against the same one computed again, row by row; columns of text included."""
    if not path.is_file():
        return 0, [f"{path.name} is missing"]
    empty = {name: [""] for name in again.select_dtypes("number")}
    stands = pd.read_csv(path, keep_default_na=False, na_values=empty).set_index(keys)
    again = again.set_index(keys)
    if set(stands.index) != set(again.index):
        return 0, [f"{path.name}: has other rows than its values give"]
    wrong = [
        f"{path.name}: {', '.join(np.atleast_1d(key))}, {column}: {stands.at[key, column]}, but "
        f"its values give {again.at[key, column]}"
        for column in again
        for key in again.index
        if not _same(stands.at[key, column], again.at[key, column])
    ]
    return again.size, wrong


def _verify_means(path: Path, again: pd.DataFrame) -> Found:
    """A table of means: measured rows against the values, reported ones against data/paper."""
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    measured = again.set_index(KEYS)
    reported = read_reported(REPORTED[path.stem]) if path.stem in REPORTED else None
    count, wrong = 0, []
    for row in table.to_dict("records"):
        where, kind = (row["dataset"], row["method"]), row.get("row")
        metrics = [name for name in table if name in set(again["metric"]) or name in METRICS]
        for metric in metrics:
            key = (where[0], metric, where[1])
            if kind == "reported":
                line = reported[(reported[["dataset", "method"]] == list(where)).all(axis=1)]
                expected = line[metric].item() if len(line) and metric in line else None
            elif kind == NOT_TRAINED:
                expected = np.nan
            else:
                expected = measured.at[key, "mean"] if key in measured.index else None
            count += 1
            if expected is None or not _same(row[metric], expected):
                source = "data/paper gives" if kind == "reported" else "its values give"
                wrong.append(
                    f"{path.name}: {', '.join(key)}: {row[metric]}, but {source} {expected}"
                )
        is_measured = kind not in ("reported", NOT_TRAINED)
        if is_measured and not (measured.xs(where, level=(0, 2))["n"] == row["n"]).all():
            wrong.append(f"{path.name}: {', '.join(where)}: n is {row['n']}")
    return count, wrong


def _same(stands: object, expected: object) -> bool:
    if isinstance(expected, str):
        return stands == expected
    if pd.isna(stands) or pd.isna(expected):
        return bool(pd.isna(stands) and pd.isna(expected))
    return bool(np.isclose(stands, expected, rtol=RELATIVE, atol=0))
