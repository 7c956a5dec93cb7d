"""Methods × datasets × metrics → one tidy table, from the images as they are on disk.

The pairs decide what is measured, not the folder: an image that no pair asks for is ignored. Work
is spread over images by joblib, so ``joblib.parallel_config(backend="dask")`` (or ray) moves it to
other machines; rows whose files did not change are taken from the CSV of the last time.

The columns are ``dataset, name, method, metric, value, reason, files``: ``value`` is NaN where
``reason`` says why; ``files`` identifies the three images, the protocol and the version of the
metrics. A CSV whose other rows are kept also says in which ``folder`` a method's images were, seen
from its own.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import joblib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from fusionlib.datasets import load_pair
from fusionlib.errors import DatasetError, ImageError, MetricError, PairError
from fusionlib.files import file_sha256, write_atomically
from fusionlib.images import luma8, read_luma8
from fusionlib.metrics import METRICS, VERSION, Sources, find_metric
from fusionlib.metrics.protocols import check_protocol, measure_by
from fusionlib.pairing import LISTED, Pair, images_by_stem

NO_IMAGE = "there is no fused image"
COLUMNS = ["dataset", "name", "method", "metric", "value"]
ORIGIN = ["reason", "files"]  # why there is no value; which images, protocol and version
FOLDER = "folder"


class Row(NamedTuple):
    """A line of the table."""

    dataset: str
    name: str
    method: str
    metric: str
    value: float
    reason: str = ""
    files: str = ""
    folder: str = ""


Rows = dict[tuple[str, str], dict[str, list[Row]]]  # dataset, name → method → rows
Fused = dict[Pair, dict[str, Path | None]]  # pair → method → fused image, None where there is none


@dataclass(frozen=True)
class How:
    """How `evaluate` measures.

    Attributes:
        protocol: a key of `fusionlib.metrics.protocols.PROTOCOLS`.
        missing: a pair without fused image is an error, or a marked row without value.
        on_bad: a pair with a damaged file, or one of another size, is an error, or left out for
            all methods.
        follow_links: see `fusionlib.datasets.find_pairs`.
        reading: the sources are read by `fusionlib.datasets.load_pair` with these, as `fuse` did.
        jobs: processes; −1 for all cores, or all workers of the backend.
    """

    protocol: str = "ours"
    missing: Literal["error", "mark"] = "error"
    on_bad: Literal["error", "skip"] = "error"
    follow_links: bool = False
    reading: Mapping[str, Any] | None = None
    jobs: int = -1


def evaluate(
    methods: Mapping[str, Path | str],
    datasets: Mapping[str, Sequence[Pair]],
    metrics: Sequence[str] = tuple(METRICS),
    *,
    csv: Path | str | None = None,
    keep: bool = False,
    **options: object,
) -> pd.DataFrame:
    """Measure fused images.

    Args:
        methods: method → its folder, with ``<dataset>/<name>.<ext>`` or, for one dataset alone,
            ``<name>.<ext>``; any image format, grey or colour (its luma is measured).
        datasets: dataset → the pairs that count.
        metrics: keys of `fusionlib.metrics.METRICS`.
        csv: the rows as a file, written even if interrupted; known files are not measured again.
        keep: rows of the CSV that are not asked for stay there, but for those of images that have
            changed or are measured by another protocol now; else it holds what is returned.
        options: fields of `How`.

    Returns:
        One row a value, in the order asked for, with the columns that the module names;
        ``attrs["skipped"]`` has name, ``damaged`` and reason of each pair left out.

    Raises:
        DatasetError: no folder, pairs without fused image, or (`keep`) one method, two folders.
        MetricError, ImageError: unknown metric or protocol; a file is damaged or of other size.
    """
    how = How(**options)
    check_protocol(how.protocol)
    metrics = [find_metric(name).name for name in dict.fromkeys(metrics)]
    fused, folders = _find_fused(methods, datasets, how)
    rows = _known_rows(csv)
    places = _check_folders(folders, Path(csv), rows) if csv and keep else {}
    try:
        skipped = _measure(fused, rows, metrics, how)
    finally:
        frame = _asked(fused, rows, methods, metrics)
        if csv is not None:
            write_values(_placed(rows, places) if keep else frame, csv)
    frame.attrs["skipped"] = [(p.name, "damaged", skipped[p]) for p in fused if p in skipped]
    return frame


def _measure(fused: Fused, rows: Rows, metrics: Sequence[str], how: How) -> dict[Pair, str]:
    """Bring ``rows`` up to date, pair by pair; which pairs were left out, and why."""
    skipped = {}
    tasks = [
        joblib.delayed(_measure_pair)(
            pair, images, rows.get((pair.dataset, pair.name), {}), metrics, how
        )
        for pair, images in fused.items()
    ]
    done = joblib.Parallel(n_jobs=how.jobs, return_as="generator_unordered")(tasks)
    try:
        for pair, found, problem in tqdm(done, total=len(tasks), desc="measuring", unit="pair"):
            rows[pair.dataset, pair.name] = rows.get((pair.dataset, pair.name), {}) | found
            skipped |= {pair: problem} if problem else {}
    except BaseException:
        _drop_stale(fused, rows, how)
        raise
    return skipped


def _drop_stale(fused: Fused, rows: Rows, how: How) -> None:
    """Of the pairs that were not reached, keep the rows of files that are as they were."""
    for pair, images in fused.items():
        known = rows.get((pair.dataset, pair.name), {})
        for method in images.keys() & known:
            files = ""
            with suppress(ImageError):
                files = _digest(pair, images[method], how) if images[method] else ""
            known[method] = [row for row in known[method] if row.files == files]


def _asked(
    fused: Fused, rows: Rows, methods: Iterable[str], metrics: Sequence[str]
) -> pd.DataFrame:
    """The rows that were asked for, in order."""
    asked = [
        row
        for pair in fused
        for method, metric in product(methods, metrics)
        for row in rows.get((pair.dataset, pair.name), {}).get(method, ())
        if row.metric == metric
    ]
    return pd.DataFrame(asked, columns=Row._fields).drop(columns=FOLDER)


def _find_fused(
    methods: Mapping[str, Path | str], datasets: Mapping[str, Sequence[Pair]], how: How
) -> tuple[Fused, dict[tuple[str, str], Path]]:
    """Images by pair and method, in order; and dataset, method → folder without the dataset's.

    Paths are absolute, since other processes read them. Raises DatasetError, see `evaluate`.
    """
    fused, folders = {}, {}
    for dataset, pairs in datasets.items():
        images = {}
        for method, given in methods.items():
            if not Path(given).is_dir():
                raise DatasetError(f"{given}: no such folder")
            folder = Path(given, dataset).absolute()
            if not folder.is_dir() and len(datasets) == 1:
                folder = folder.parent
            images[method] = images_by_stem(folder, how.follow_links) if folder.is_dir() else {}
            folders[dataset, method] = folder.parent if folder.name == dataset else folder
        for pair in sorted(pairs, key=lambda pair: pair.name):
            pair = replace(pair, ir=pair.ir.absolute(), vi=pair.vi.absolute())
            fused[pair] = {method: images[method].get(pair.name) for method in methods}
    if how.missing == "error":
        _refuse_missing(fused)
    return fused, folders


def _refuse_missing(fused: Fused) -> None:
    absent = [
        f"{method}/{pair.dataset}/{pair.name}"
        for pair, images in fused.items()
        for method, path in images.items()
        if path is None
    ]
    if absent:
        listed = ", ".join(sorted(absent)[:LISTED])
        raise DatasetError(f"{len(absent)} fused images are missing: {listed}")


def _check_folders(
    folders: Mapping[tuple[str, str], Path], csv: Path, known: Rows
) -> dict[tuple[str, str], str]:
    """The folders as the CSV names them; an error if it has values of one method from another."""
    places = {}
    for (dataset, method), folder in folders.items():
        place = os.path.realpath(folder)
        with suppress(ValueError):  # on another drive
            # seen from the CSV, so that both may be moved together
            place = os.path.relpath(place, os.path.realpath(csv.parent))
        place = places[dataset, method] = Path(place).as_posix()
        for row in (row for rows in known.values() for row in rows.get(method, ())):
            # datasets of one method may be in folders of other names, not in two of one name
            is_rival = row.dataset == dataset or Path(row.folder).name == folder.name
            if is_rival and row.folder not in ("", place):
                raise DatasetError(
                    f"{csv} has values of {method!r} from the folder {row.folder}, and these are "
                    f"from {place} (both seen from the CSV): give another --method, or another CSV"
                )
    return places


def _measure_pair(
    pair: Pair,
    images: Mapping[str, Path | None],
    known: Mapping[str, list[Row]],
    metrics: Sequence[str],
    how: How,
) -> tuple[Pair, dict[str, list[Row]], str]:
    """One pair: method → rows asked for, and known ones that are still true; or why not.

    What the sources share among methods is computed once.
    """
    rows, sources = {}, None
    try:
        for method, path in images.items():
            new = (pair.dataset, pair.name, method)
            if path is None:
                rows[method] = [Row(*new, metric, np.nan, NO_IMAGE) for metric in metrics]
                continue
            files = _digest(pair, path, how)
            found = {row.metric: row for row in known.get(method, ()) if row.files == files}
            if todo := [metric for metric in metrics if metric not in found]:
                if sources is None:
                    ir, vi = load_pair(pair, **how.reading or {})
                    sources = Sources(np.rint(ir * 255).astype(np.uint8), luma8(vi))
                fused = read_luma8(path)
                check_size(path, fused.shape, sources.ir.levels.shape)
                for metric, value in measure_by(how.protocol, sources, fused, todo).items():
                    found[metric] = Row(*new, metric, *value, files)
            rows[method] = list(found.values())
    except (ImageError, MetricError, PairError) as error:
        if how.on_bad == "error":
            raise
        return pair, {method: [] for method in images}, str(error)
    return pair, rows, ""


def _digest(pair: Pair, path: Path, how: How) -> str:
    """What identifies the three images, how they are read, and the metrics."""
    try:
        ir, vi, fused = (file_sha256(file) for file in (pair.ir, pair.vi, path))
    except OSError as error:
        raise ImageError(f"{error.filename}: cannot be read ({error.strerror})") from error
    reading = f"{sorted(how.reading.items())!r} " if how.reading else ""
    text = f"{VERSION} {how.protocol} {ir} {vi} {reading}{fused}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_size(path: Path, shape: tuple[int, int], expected: tuple[int, int]) -> None:
    """Raise MetricError unless a fused image has the (height, width) of its sources."""
    if shape != expected:
        raise MetricError(
            f"{path} is {shape[1]}×{shape[0]}, but its sources are {expected[1]}×{expected[0]}; "
            f"fuse them at their own size, or take the file out of the folder"
        )


def _known_rows(csv: Path | str | None) -> Rows:
    """The rows of the CSV of the last time, if there is one."""
    known: Rows = {}
    if csv is not None and Path(csv).is_file():
        for values in read_values(csv).itertuples(index=False, name=None):
            row = Row(*values)
            known.setdefault(row[:2], {}).setdefault(row.method, []).append(row)
    return known


def _placed(rows: Rows, places: Mapping[tuple[str, str], str]) -> pd.DataFrame:
    """All rows, with the folders of those that were asked for."""
    every = [row for methods in rows.values() for found in methods.values() for row in found]
    folders = [places.get((row.dataset, row.method), row.folder) for row in every]
    return pd.DataFrame(every, columns=Row._fields).assign(folder=folders)


def write_values(frame: pd.DataFrame, path: Path | str) -> Path:
    """Write per-image values as CSV: sorted, exact, the same bytes for the same values.

    Args:
        frame: columns `COLUMNS`, one row a value; and ``reason``, ``files`` and ``folder`` where
            they exist, see `evaluate`.
        path: target.
    """
    columns = [*COLUMNS, *(name for name in (*ORIGIN, FOLDER) if name in frame)]
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
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        if missing := [name for name in COLUMNS if name not in frame]:
            raise ValueError(f"no column {', '.join(missing)}")
        frame["value"] = [float(text or "nan") for text in frame["value"]]  # exact, as written
    except (ValueError, OSError) as error:
        raise DatasetError(f"{path}: not a table of per-image values ({error})") from error
    columns = [*COLUMNS, *ORIGIN, *([FOLDER] if FOLDER in frame else ())]
    return frame.reindex(columns=columns, fill_value="")
