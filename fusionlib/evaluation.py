"""Methods × datasets × metrics → one tidy table, from the images as they lie on disk.

The manifest decides what is measured, not the folder: an image that no pair asks for is ignored.
Work is spread over images by joblib, so ``joblib.parallel_config(backend="dask")`` (or ray) moves
it to other machines; rows whose files did not change are taken from the CSV of the last time.

The columns are ``dataset, name, method, metric, value, reason, files``: ``value`` is NaN where
``reason`` says why; ``files`` identifies the three images, the protocol and the version of the
metrics.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import joblib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from fusionlib.datasets import Pair, images_by_stem
from fusionlib.errors import DatasetError, ImageError, MetricError
from fusionlib.files import file_sha256, write_atomically
from fusionlib.images import read_luma8
from fusionlib.metrics import METRICS, VERSION, Sources
from fusionlib.metrics.protocols import check_protocol, measure_by

Array = np.ndarray
Folders = Mapping[str, Path | str]  # method → its folder of fused images
Tests = Mapping[str, Sequence[Pair]]  # dataset → the pairs that count

NO_IMAGE = "there is no fused image"
SAVE_SECONDS = 30  # between writes of the CSV while it grows
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
        follow_links: see `fusionlib.datasets.pair_folders`.
        jobs: processes; −1 for all cores, or all workers of the backend.

    Returns:
        One row a value, in the order asked for; columns as the module says.

    Raises:
        DatasetError: no folder, or (unless marked) pairs without fused image.
        MetricError: unknown metric or protocol; a fused image of another size than its sources.
        ImageError: a file is damaged.
    """
    _check_names(metrics, protocol)
    found = _find_fused(methods, datasets, follow_links)
    absent = _find_absent(methods, datasets, found, missing)
    skipped = _damaged(datasets, found) if on_bad == "skip" else {}
    values = _Values(methods, datasets, metrics, csv, keep)
    values.measure(found, absent, skipped, protocol, jobs)
    return values.frame({"skipped": [(p.name, "damaged", why) for p, why in skipped.items()]})


class _Values:
    """Rows as they come, and the CSV they go to."""

    def __init__(self, methods: Folders, datasets: Tests, metrics: Sequence[str], csv, keep: bool):
        self.methods, self.metrics, self.csv = list(methods), metrics, csv
        self.pairs = [pair for name in datasets for pair in datasets[name]]
        self.known = {} if csv is None or not Path(csv).is_file() else _known_rows(csv)
        names = {(pair.dataset, pair.name) for pair in self.pairs}
        self.others = [
            row
            for row in self.known.values()
            if keep and not (row[:2] in names and row[2] in methods and row[3] in metrics)
        ]
        self.rows: list[Row] = []

    def measure(self, found, absent, skipped, protocol: str, jobs: int) -> None:
        """Take what is known, compute the rest; the CSV is written now and then, and at the end."""
        self.rows += [
            (pair.dataset, pair.name, method, metric, float("nan"), NO_IMAGE, "")
            for method, pair in absent
            if pair not in skipped
            for metric in self.metrics
        ]
        tasks = []
        for pair in (pair for pair in self.pairs if pair not in skipped):
            old, wanted = _split_known(
                pair, self.methods, self.metrics, found, self.known, protocol
            )
            self.rows += old
            tasks += [(pair, wanted)] if wanted else []
        calls = (joblib.delayed(_measure_pair)(pair, wanted, protocol) for pair, wanted in tasks)
        saved = time.monotonic()
        try:
            results = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)
            for result in tqdm(results, total=len(tasks), desc="measuring", unit="pair"):
                self.rows += result
                if time.monotonic() - saved > SAVE_SECONDS:
                    self.save()
                    saved = time.monotonic()
        finally:
            self.save()

    def save(self) -> None:
        """Write the CSV, if there is to be one."""
        if self.csv is not None:
            write_values(_frame([*self.others, *self.rows]), self.csv)

    def frame(self, attrs: dict) -> pd.DataFrame:
        """What was asked for, in that order."""
        datasets = dict.fromkeys(pair.dataset for pair in self.pairs)
        orders = (datasets, self.methods, self.metrics)
        places = [{name: i for i, name in enumerate(names)} for names in orders]

        def place(row: Row) -> tuple:
            dataset, name, method, metric = row[:4]
            return places[0][dataset], name, places[1][method], places[2][metric]

        frame = _frame(sorted(self.rows, key=place))
        frame.attrs |= attrs
        return frame


def _check_names(metrics: Sequence[str], protocol: str) -> None:
    for name in metrics:
        if name not in METRICS:
            raise MetricError(f"metric {name!r} is not known; one of {', '.join(METRICS)}")
    check_protocol(protocol)


def _find_absent(methods, datasets: Tests, found, missing: str) -> list[tuple[str, Pair]]:
    """(method, pair) without fused image; an error unless they are to be marked."""
    pairs = [pair for name in datasets for pair in datasets[name]]
    absent = [(m, p) for m in methods for p in pairs if (m, p.dataset, p.name) not in found]
    if absent and missing == "error":
        listed = ", ".join(f"{m}/{p.dataset}/{p.name}" for m, p in absent[:LISTED])
        raise DatasetError(f"{len(absent)} fused images are missing: {listed}")
    return absent


def _measure_pair(pair: Pair, wanted: Wanted, protocol: str) -> list[Row]:
    """All methods on one pair: what its sources share is computed once."""
    ir, vi = _read_sources(pair)
    sources, rows = Sources(ir, vi), []
    for method, (path, metrics, files) in wanted.items():
        fused = _read_fused(path, ir.shape)
        for metric, (value, reason) in measure_by(protocol, sources, fused, metrics).items():
            rows.append((pair.dataset, pair.name, method, metric, value, reason, files))
    return rows


def _read_sources(pair: Pair) -> tuple[Array, Array]:
    ir, vi = read_luma8(pair.ir), read_luma8(pair.vi)
    if ir.shape != vi.shape:
        raise MetricError(f"{pair.ir} and {pair.vi} are of different size")
    return ir, vi


def _read_fused(path: Path, shape: tuple[int, int]) -> Array:
    fused = read_luma8(path)
    check_size(path, fused.shape, shape)
    return fused


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


def _damaged(datasets: Tests, found: Mapping[tuple, Path]) -> dict[Pair, str]:
    """Pairs of which the sources or some fused image cannot be measured, and why."""
    fused: dict[tuple[str, str], list[Path]] = {}
    for (_, dataset, name), path in found.items():
        fused.setdefault((dataset, name), []).append(path)
    bad = {}
    for pair in (pair for name in datasets for pair in datasets[name]):
        try:
            shape = _read_sources(pair)[0].shape
            for path in fused.get((pair.dataset, pair.name), ()):
                _read_fused(path, shape)
        except (ImageError, MetricError) as error:
            bad[pair] = str(error)
    return bad


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
    sources = [file_hash(path) for path in (pair.ir, pair.vi)] if present else []
    for method in present:
        path = found[method, pair.dataset, pair.name]
        parts = [str(VERSION), protocol, *sources, file_hash(path)]
        files = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
        todo = []
        for metric in metrics:
            old = known.get((pair.dataset, pair.name, method, metric))
            if old is not None and old[-1] == files:
                rows.append(old)
            else:
                todo.append(metric)
        if todo:
            wanted[method] = (path, todo, files)
    return rows, wanted


def file_hash(path: Path) -> str:
    """sha256 of a file, or the error of an image that cannot be read."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _known_rows(csv: Path | str) -> dict[tuple[str, ...], Row]:
    frame = read_values(csv)
    return {row[:4]: row for row in frame.itertuples(index=False, name=None)}


def _frame(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*COLUMNS, "reason", "files"])


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
