"""Methods × datasets × metrics → one tidy table, from the images as they lie on disk.

The manifest decides what is measured, not the folder: an image that no pair asks for is ignored.
Work is spread over images by joblib, so ``joblib.parallel_config(backend="dask")`` (or ray) moves
it to other machines; rows whose files did not change are taken from the CSV of the last time.

The columns are ``dataset, name, method, metric, value, reason, files``: ``value`` is NaN where
``reason`` says why; ``files`` identifies the three images, the protocol and the version of the
metrics.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import joblib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from fusionlib.errors import DatasetError, ImageError, MetricError
from fusionlib.files import file_sha256, write_atomically
from fusionlib.images import read_luma8
from fusionlib.metrics import METRICS, VERSION, Sources
from fusionlib.metrics.protocols import check_protocol, measure_by
from fusionlib.pairing import Pair, images_by_stem

Array = np.ndarray
Folders = Mapping[str, Path | str]  # method → its folder of fused images
Tests = Mapping[str, Sequence[Pair]]  # dataset → the pairs that count

NO_IMAGE = "there is no fused image"
LISTED = 10  # missing images an error spells out

Row = tuple[str, str, str, str, float, str, str]  # COLUMNS, reason, files
Wanted = dict[str, tuple[Path, list[str], str]]  # method → fused image, metrics, hash of the files
COLUMNS = ["dataset", "name", "method", "metric", "value"]
ORIGIN = ["reason", "files"]  # why there is no value; which images, protocol and version


def evaluate(
    methods: Folders,
    datasets: Tests,
    metrics: Sequence[str] = tuple(METRICS),
    *,
    csv: Path | str | None = None,
    keep: bool = False,
    protocol: str = "ours",
    missing: Literal["error", "mark"] = "error",
    on_bad: Literal["error", "skip"] = "error",
    follow_links: bool = False,
    jobs: int = -1,
) -> pd.DataFrame:
    """Measure fused images.

    Args:
        methods: method → its folder, with ``<dataset>/<name>.<ext>`` or, for one dataset alone,
            ``<name>.<ext>``; any image format, grey or colour (its luma is measured).
        datasets: dataset → the pairs that count.
        metrics: keys of `fusionlib.metrics.METRICS`.
        csv: the rows as a file, written even if interrupted; known files are not measured again.
        keep: rows of the CSV that are not asked for stay there; else it holds what is returned.
        protocol: a key of `fusionlib.metrics.protocols.PROTOCOLS`.
        missing: a pair without fused image is an error, or a marked row without value.
        on_bad: a pair with a damaged file, or one of another size, is an error, or left out for
            all methods; ``attrs["skipped"]`` has its name, ``damaged`` and the reason.
        follow_links: see `fusionlib.pairing.pair_folders`.
        jobs: processes; −1 for all cores, or all workers of the backend.

    Returns:
        One row a value, in the order asked for; columns as the module says.

    Raises:
        DatasetError: no folder, or (unless marked) pairs without fused image.
        MetricError: unknown metric or protocol; a fused image of another size than its sources.
        ImageError: a file is damaged.
    """
    _check_names(metrics, protocol)
    # absolute: joblib's processes outlive a change of the working directory
    methods = {name: Path(folder).absolute() for name, folder in methods.items()}
    pairs = [
        replace(pair, ir=pair.ir.absolute(), vi=pair.vi.absolute())
        for name in datasets
        for pair in datasets[name]
    ]
    found = _find_fused(methods, datasets, follow_links)
    rows = _absent_rows(methods, pairs, metrics, found, missing)  # by pair
    known = _known_rows(csv)
    asked = {(p.dataset, p.name, m, k) for p in pairs for m in methods for k in metrics}
    others = [row for key, row in known.items() if keep and key not in asked]
    skipped: dict[Pair, str] = {}
    try:
        _measure(pairs, methods, metrics, found, known, protocol, on_bad, jobs, rows, skipped)
    finally:
        measured = [row for pair in pairs if pair not in skipped for row in rows[pair]]
        if csv is not None:
            write_values(_frame([*others, *measured]), csv)
    order = [list(names) for names in (datasets, methods, metrics)]
    measured.sort(
        key=lambda r: (order[0].index(r[0]), r[1], order[1].index(r[2]), order[2].index(r[3]))
    )
    frame = _frame(measured)
    frame.attrs["skipped"] = [(p.name, "damaged", skipped[p]) for p in pairs if p in skipped]
    return frame


def _measure(pairs, methods, metrics, found, known, protocol, on_bad, jobs, rows, skipped) -> None:
    """Add to ``rows`` what is known of each pair and what is measured, or a pair to ``skipped``."""
    tasks = []
    for pair in pairs:
        try:
            old, wanted = _split_known(pair, methods, metrics, found, known, protocol)
        except ImageError as error:
            if on_bad == "error":
                raise
            old, wanted, skipped[pair] = [], {}, str(error)
        rows[pair] += old
        tasks += [joblib.delayed(_measure_pair)(pair, wanted, protocol, on_bad)] if wanted else []
    results = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks)
    for pair, new, problem in tqdm(results, total=len(tasks), desc="measuring", unit="pair"):
        rows[pair] += new
        skipped |= {pair: problem} if problem else {}


def _check_names(metrics: Sequence[str], protocol: str) -> None:
    for name in metrics:
        if name not in METRICS:
            raise MetricError(f"metric {name!r} is not known; one of {', '.join(METRICS)}")
    check_protocol(protocol)


def _absent_rows(methods, pairs, metrics, found, missing: str) -> dict[Pair, list[Row]]:
    """Rows without value of what has no fused image; an error unless they are to be marked."""
    absent = [(m, p) for m in methods for p in pairs if (m, p.dataset, p.name) not in found]
    if absent and missing == "error":
        listed = ", ".join(f"{m}/{p.dataset}/{p.name}" for m, p in absent[:LISTED])
        raise DatasetError(f"{len(absent)} fused images are missing: {listed}")
    rows: dict[Pair, list[Row]] = {pair: [] for pair in pairs}
    for method, pair in absent:
        nothing = float("nan"), NO_IMAGE, ""
        rows[pair] += [(pair.dataset, pair.name, method, metric, *nothing) for metric in metrics]
    return rows


def _measure_pair(
    pair: Pair, wanted: Wanted, protocol: str, on_bad: str
) -> tuple[Pair, list[Row], str]:
    """All methods on one pair, whose sources' share is computed once; or why it is left out."""
    rows = []
    try:
        ir, vi = _read_sources(pair)
        sources = Sources(ir, vi)
        for method, (path, metrics, files) in wanted.items():
            fused = read_luma8(path)
            check_size(path, fused.shape, ir.shape)
            for metric, (value, reason) in measure_by(protocol, sources, fused, metrics).items():
                rows.append((pair.dataset, pair.name, method, metric, value, reason, files))
    except (ImageError, MetricError) as error:
        if on_bad == "error":
            raise
        return pair, [], str(error)
    return pair, rows, ""


def _read_sources(pair: Pair) -> tuple[Array, Array]:
    ir, vi = read_luma8(pair.ir), read_luma8(pair.vi)
    if ir.shape != vi.shape:
        raise MetricError(f"{pair.ir} and {pair.vi} are of different size")
    return ir, vi


def check_size(path: Path, shape: tuple[int, int], expected: tuple[int, int]) -> None:
    """A fused image must have the height and width of its sources.

    Raises:
        MetricError: it has not.
    """
    if shape != expected:
        raise MetricError(
            f"{path} is {shape[1]}×{shape[0]}, but its sources are {expected[1]}×{expected[0]}; "
            f"fuse them at their own size, or take the file out of the folder"
        )


def _find_fused(
    methods: Folders, datasets: Tests, follow_links: bool = False
) -> dict[tuple[str, str, str], Path]:
    """(method, dataset, name) → fused image, of all that are there."""
    found = {}
    for method, folder in methods.items():
        for dataset in datasets:
            inner = Path(folder, dataset)
            if not inner.is_dir() and len(datasets) > 1:
                if not Path(folder).is_dir():
                    raise DatasetError(f"{folder}: no such folder")
                continue  # each of its images is missing
            inner = inner if inner.is_dir() else Path(folder)
            files = images_by_stem(inner, follow_links)
            found |= {(method, dataset, name): path for name, path in files.items()}
    return found


def _split_known(pair, methods, metrics, found, known, protocol) -> tuple[list[Row], Wanted]:
    """Rows that need not be computed again, and what remains to be measured."""
    rows, wanted = [], {}
    present = [m for m in methods if (m, pair.dataset, pair.name) in found]
    sources = [_file_hash(path) for path in (pair.ir, pair.vi)] if present else []
    for method in present:
        path = found[method, pair.dataset, pair.name]
        parts = [str(VERSION), protocol, *sources, _file_hash(path)]
        files = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
        old = {metric: known.get((pair.dataset, pair.name, method, metric)) for metric in metrics}
        old = {metric: row for metric, row in old.items() if row and row[-1] == files}
        rows += old.values()
        if todo := [metric for metric in metrics if metric not in old]:
            wanted[method] = (path, todo, files)
    return rows, wanted


def _file_hash(path: Path) -> str:
    """sha256 of a file, or the error of an image that cannot be read."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _known_rows(csv: Path | str | None) -> dict[tuple[str, ...], Row]:
    """Dataset, name, method, metric → row of the CSV of the last time, if there is one."""
    if csv is None or not Path(csv).is_file():
        return {}
    return {row[:4]: row for row in read_values(csv).itertuples(index=False, name=None)}


def _frame(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*COLUMNS, *ORIGIN])


def write_values(frame: pd.DataFrame, path: Path | str) -> Path:
    """Write per-image values as CSV: sorted, exact, the same bytes for the same values.

    Args:
        frame: columns `COLUMNS`, one row a value; and ``reason`` and ``files`` where they exist,
            see `evaluate`.
        path: target.
    """
    columns = [*COLUMNS, *(name for name in ORIGIN if name in frame)]
    ordered = frame[columns].sort_values(COLUMNS[:-1], kind="stable")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, ordered.to_csv(index=False, lineterminator="\n").encode())
    return path


def read_values(path: Path | str) -> pd.DataFrame:
    """Read what `write_values` wrote; values come back bit for bit.

    Raises:
        DatasetError: not such a file.
    """
    columns = [*COLUMNS, *ORIGIN]
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        if missing := [name for name in COLUMNS if name not in frame]:
            raise ValueError(f"no column {', '.join(missing)}")
        frame["value"] = [float(text or "nan") for text in frame["value"]]  # exact, as written
        return frame.reindex(columns=columns, fill_value="")[columns]
    except (ValueError, OSError) as error:
        raise DatasetError(f"{path}: not a table of per-image values ({error})") from error
