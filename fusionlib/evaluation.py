"""Methods × datasets × metrics → one tidy table, from the images as they lie on disk.

The manifest decides what is measured, not the folder: an image that no pair asks for is ignored.
Work is spread over images by joblib, so ``joblib.parallel_config(backend="dask")`` (or ray) moves
it to other machines; rows whose files did not change are taken from the CSV of the last time.
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
from fusionlib.files import file_sha256
from fusionlib.images import read_luma8
from fusionlib.metrics import METRICS, VERSION, Sources
from fusionlib.metrics.protocols import check_protocol, measure_by
from fusionlib.tables import COLUMNS, read_values, write_values

Array = np.ndarray

NO_IMAGE = "there is no fused image"
SAVE_SECONDS = 30  # between writes of the CSV while it grows
LISTED = 10  # missing images an error spells out

Row = tuple[str, str, str, str, float, str, str]  # COLUMNS, reason, files
Wanted = dict[str, tuple[Path, list[str], str]]  # method → fused image, metrics, hash of the files


def evaluate(
    methods: Mapping[str, Path | str],
    datasets: Mapping[str, Sequence[Pair]],
    metrics: Sequence[str] = tuple(METRICS),
    *,
    csv: Path | str | None = None,
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
        csv: per-image values; what stands there for the same files is not computed again, and
            what was computed is written even if the run is interrupted.
        protocol: a key of `fusionlib.metrics.protocols.PROTOCOLS`.
        missing: a pair without fused image is an error, or a marked row without value.
        on_bad: a pair of which a file is damaged or of another size is an error, or left out for
            all methods, so that all means are over the same images.
        follow_links: see `fusionlib.datasets.pair_folders`.
        jobs: processes; −1 for all cores, or all workers of the backend.

    Returns:
        Columns ``dataset, name, method, metric, value, reason, files``, in the order of the
        arguments; ``value`` is NaN where ``reason`` says why, ``files`` identifies the three
        images, the protocol and the version of the metrics. ``attrs["skipped"]`` lists what was
        left out: name, ``damaged``, reason.

    Raises:
        DatasetError: no folder, or (unless marked) pairs without fused image.
        MetricError: unknown metric or protocol; a fused image of another size than its sources.
        ImageError: a file is damaged.
    """
    for name in metrics:
        if name not in METRICS:
            raise MetricError(f"metric {name!r} is not known; one of {', '.join(METRICS)}")
    check_protocol(protocol)
    pairs = [pair for name in datasets for pair in datasets[name]]
    found = _find_fused(methods, datasets, follow_links)
    absent = [(m, p) for m in methods for p in pairs if (m, p.dataset, p.name) not in found]
    if absent and missing == "error":
        listed = ", ".join(f"{m}/{p.dataset}/{p.name}" for m, p in absent[:LISTED])
        raise DatasetError(f"{len(absent)} fused images are missing: {listed}")
    skipped = _damaged(pairs, found) if on_bad == "skip" else {}
    pairs = [pair for pair in pairs if pair not in skipped]
    absent = [(method, pair) for method, pair in absent if pair not in skipped]
    known = {} if csv is None or not Path(csv).is_file() else _known_rows(csv)
    rows = [
        (p.dataset, p.name, m, k, float("nan"), NO_IMAGE, "") for m, p in absent for k in metrics
    ]
    tasks = []
    for pair in pairs:
        old, wanted = _split_known(pair, methods, metrics, found, known, protocol)
        rows += old
        tasks += [(pair, wanted)] if wanted else []
    try:
        _compute(tasks, rows, protocol, jobs, csv)
    finally:
        frame = _ordered(rows, methods, datasets, metrics)
        if csv is not None:
            write_values(frame, csv)
    frame.attrs["skipped"] = [(pair.name, "damaged", why) for pair, why in skipped.items()]
    return frame


def _compute(tasks, rows: list[Row], protocol: str, jobs: int, csv: Path | str | None) -> None:
    """Measure the images of each task, adding to the rows and now and then to the CSV."""
    saved = time.monotonic()
    calls = (joblib.delayed(_measure_pair)(pair, wanted, protocol) for pair, wanted in tasks)
    results = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)
    for result in tqdm(results, total=len(tasks), desc="measuring", unit="pair"):
        rows += result
        if csv is not None and time.monotonic() - saved > SAVE_SECONDS:
            write_values(_frame(rows), csv)
            saved = time.monotonic()


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
    if fused.shape != shape:
        raise MetricError(
            f"{path} is {fused.shape[1]}×{fused.shape[0]}, but its sources are "
            f"{shape[1]}×{shape[0]}"
        )
    return fused


def _damaged(pairs: Sequence[Pair], found: Mapping[tuple, Path]) -> dict[Pair, str]:
    """Pairs of which the sources or some fused image cannot be measured, and why."""
    fused: dict[tuple[str, str], list[Path]] = {}
    for (_, dataset, name), path in found.items():
        fused.setdefault((dataset, name), []).append(path)
    bad = {}
    for pair in pairs:
        try:
            shape = _read_sources(pair)[0].shape
            for path in fused.get((pair.dataset, pair.name), ()):
                _read_fused(path, shape)
        except (ImageError, MetricError) as error:
            bad[pair] = str(error)
    return bad


def _find_fused(
    methods: Mapping[str, Path | str],
    datasets: Mapping[str, Sequence[Pair]],
    follow_links: bool = False,
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


def _ordered(rows: list[Row], methods, datasets, metrics) -> pd.DataFrame:
    places = [{name: i for i, name in enumerate(names)} for names in (datasets, methods, metrics)]

    def place(row: Row) -> tuple:
        dataset, name, method, metric = row[:4]
        return places[0][dataset], name, places[1][method], places[2][metric]

    return _frame(sorted(rows, key=place))
