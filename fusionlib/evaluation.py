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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from fusionlib.metrics import METRICS, VERSION, Sources
from fusionlib.metrics.protocols import PROTOCOLS, check_protocol, measure_by
from fusionlib.pairing import LISTED, Pair, images_by_stem

Folders = Mapping[str, Path | str]  # method → its folder of fused images
Tests = Mapping[str, Sequence[Pair]]  # dataset → the pairs that count
Fused = dict[Pair, dict[str, Path]]  # pair → method → fused image
Key = tuple[str, str, str, str]  # dataset, name, method, metric

NO_IMAGE = "there is no fused image"
COLUMNS = ["dataset", "name", "method", "metric", "value"]
ORIGIN = ["reason", "files"]  # why there is no value; which images, protocol and version
FOLDER = "folder"


class Row(NamedTuple):
    """A line of the table; the first four fields are its `Key`."""

    dataset: str
    name: str
    method: str
    metric: str
    value: float
    reason: str = ""
    files: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Options:
    """How `evaluate` reads and measures.

    Attributes:
        protocol: a key of `fusionlib.metrics.protocols.PROTOCOLS`.
        missing: a pair without fused image is an error, or a marked row without value.
        on_bad: a pair with a damaged file, or one of another size, is an error, or left out for
            all methods.
        follow_links: see `fusionlib.datasets.find_pairs`.
        reading: the sources are read by `fusionlib.datasets.load_pair` with these, as `fuse` did;
            None: as any image, see `fusionlib.images.read_luma8`.
        jobs: processes; −1 for all cores, or all workers of the backend.
    """

    protocol: str = "ours"
    missing: Literal["error", "mark"] = "error"
    on_bad: Literal["error", "skip"] = "error"
    follow_links: bool = False
    reading: Mapping[str, Any] | None = None
    jobs: int = -1


def evaluate(
    methods: Folders,
    datasets: Tests,
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
        keep: rows of the CSV that are not asked for stay there; else it holds what is returned.
        options: fields of `Options`.

    Returns:
        One row a value, in the order asked for, with the columns that the module names;
        ``attrs["skipped"]`` has name, ``damaged`` and reason of each pair left out.

    Raises:
        DatasetError: no folder, pairs without fused image, or (`keep`) one method, two folders.
        MetricError, ImageError: unknown metric or protocol; a file is damaged or of other size.
    """
    chosen = Options(**options)
    _check_names(metrics, chosen.protocol)
    fused = _find_fused(methods, datasets, chosen.follow_links)
    asked = {(p.dataset, p.name, m, k): p for p in fused for m in methods for k in metrics}
    absent = _absent_rows(fused, methods, metrics, chosen.missing)
    known = _known_rows(csv)
    folders = _folders(methods, datasets, Path(csv), known) if csv and keep else {}
    files, skipped = _identify(fused, chosen)
    known, found = _still_true(known, files, chosen.protocol, absent)
    try:
        _measure(fused, metrics, files, chosen, found, skipped)
    finally:
        rows = [found[key] for key in asked if key in found and asked[key] not in skipped]
        if csv is not None:
            others = [row for key, row in known.items() if key not in asked]
            _write(csv, rows, folders, others if keep else None)
    return _table(rows, skipped)


def _check_names(metrics: Sequence[str], protocol: str) -> None:
    for name in metrics:
        if name not in METRICS:
            raise MetricError(f"metric {name!r} is not known; one of {', '.join(METRICS)}")
    check_protocol(protocol)


def _find_fused(methods: Folders, datasets: Tests, follow_links: bool) -> Fused:
    """The fused images that are there, in order; paths are absolute, as processes live on."""
    fused: Fused = {
        replace(pair, ir=pair.ir.absolute(), vi=pair.vi.absolute()): {}
        for name in datasets
        for pair in sorted(datasets[name], key=lambda pair: pair.name)
    }
    for method, folder in methods.items():
        for dataset in datasets:
            inner = Path(folder, dataset).absolute()
            if not inner.is_dir() and len(datasets) > 1:
                if not Path(folder).is_dir():
                    raise DatasetError(f"{folder}: no such folder")
                continue  # each of its images is missing
            files = images_by_stem(inner if inner.is_dir() else inner.parent, follow_links)
            for pair in (p for p in fused if p.dataset == dataset and p.name in files):
                fused[pair][method] = files[pair.name]
    return fused


def _folders(
    methods: Folders, datasets: Tests, csv: Path, known: Mapping[Key, Row]
) -> dict[str, str]:
    """Method → its folder without the dataset's, seen from the CSV, which knows no other."""
    folders = {}
    for method, given in methods.items():
        folder = Path(given).absolute()
        if folder.name in datasets and not (folder / folder.name).is_dir():
            folder = folder.parent
        try:
            now = os.path.relpath(os.path.realpath(folder), os.path.realpath(csv.parent))
        except ValueError:  # another drive
            now = os.path.realpath(folder)
        now = folders[method] = Path(now).as_posix()
        for row in known.values():
            # datasets of one method may be in folders of other names, not in two of one name
            is_rival = row.dataset in datasets or Path(row.folder).name == Path(now).name
            if row.method == method and row.folder not in ("", now) and is_rival:
                raise DatasetError(
                    f"{csv} has values of {method!r} from the folder {row.folder}, and these are "
                    f"from {now} (both seen from the CSV): give another --method, or another CSV"
                )
    return folders


def _absent_rows(fused: Fused, methods, metrics, missing: str) -> dict[Key, Row]:
    """Rows without value of what has no fused image; an error unless they are to be marked."""
    absent = [(m, pair) for m in methods for pair in fused if m not in fused[pair]]
    if absent and missing == "error":
        listed = ", ".join(f"{m}/{p.dataset}/{p.name}" for m, p in absent[:LISTED])
        raise DatasetError(f"{len(absent)} fused images are missing: {listed}")
    keys = [(p.dataset, p.name, m, metric) for m, p in absent for metric in metrics]
    return {key: Row(*key, float("nan"), NO_IMAGE) for key in keys}


def _identify(
    fused: Fused, options: Options
) -> tuple[dict[tuple[str, str, str], dict[str, str]], dict[Pair, str]]:
    """Dataset, name and method → protocol → ``files``; and pairs left out → why."""
    files, skipped = {}, {}
    reading = [repr(sorted(options.reading.items()))] if options.reading else []
    for pair, images in fused.items():
        try:
            sources = [_file_hash(path) for path in (pair.ir, pair.vi)] if images else []
            for method, path in images.items():
                image = " ".join([*sources, *reading, _file_hash(path)])
                texts = {name: f"{VERSION} {name} {image}".encode() for name in PROTOCOLS}
                files[pair.dataset, pair.name, method] = {
                    name: hashlib.sha256(text).hexdigest()[:16] for name, text in texts.items()
                }
        except ImageError as error:
            if options.on_bad == "error":
                raise
            skipped[pair] = str(error)
    return files, skipped


def _still_true(known, files, protocol: str, absent) -> tuple[dict[Key, Row], dict[Key, Row]]:
    """Known rows, but for those of images that have changed; and what need not be measured."""
    known = {k: r for k, r in known.items() if r.files in files.get(k[:3], {"": r.files}).values()}
    of_now = {k: r for k, r in known.items() if r.files == files.get(k[:3], {}).get(protocol)}
    return known, of_now | absent


def _measure(fused: Fused, metrics, files, options: Options, found, skipped) -> None:
    """Add to ``found`` what is not there yet, or its pair to ``skipped``."""
    tasks = []
    for pair, images in fused.items():
        wanted = {}
        for method, path in images.items() if pair not in skipped else ():
            image = pair.dataset, pair.name, method
            if todo := [metric for metric in metrics if (*image, metric) not in found]:
                wanted[method] = path, todo, files[image][options.protocol]
        tasks += [joblib.delayed(_measure_pair)(pair, wanted, options)] if wanted else []
    done = joblib.Parallel(n_jobs=options.jobs, return_as="generator_unordered")(tasks)
    for pair, rows, problem in tqdm(done, total=len(tasks), desc="measuring", unit="pair"):
        found |= {row[:4]: row for row in rows}
        skipped |= {pair: problem} if problem else {}


def _measure_pair(pair: Pair, wanted, options: Options) -> tuple[Pair, list[Row], str]:
    """All methods on one pair, whose sources' share is computed once; or why it is left out."""
    rows = []
    try:
        ir, vi = _read_sources(pair, options.reading)
        sources = Sources(ir, vi)
        for method, (path, metrics, files) in wanted.items():
            fused = read_luma8(path)
            check_size(path, fused.shape, ir.shape)
            values = measure_by(options.protocol, sources, fused, metrics)
            for metric, (value, reason) in values.items():
                rows.append(Row(pair.dataset, pair.name, method, metric, value, reason, files))
    except (ImageError, MetricError, PairError) as error:
        if options.on_bad == "error":
            raise
        return pair, [], str(error)
    return pair, rows, ""


def _read_sources(pair: Pair, reading: Mapping[str, Any] | None) -> tuple[np.ndarray, np.ndarray]:
    """8-bit luma of both, (H, W)."""
    if reading is not None:
        ir, vi = load_pair(pair, **reading)
        return np.rint(ir * 255).astype(np.uint8), luma8(vi)
    ir, vi = read_luma8(pair.ir), read_luma8(pair.vi)
    if ir.shape != vi.shape:
        raise MetricError(f"{pair.ir} and {pair.vi} are of different size")
    return ir, vi


def check_size(path: Path, shape: tuple[int, int], expected: tuple[int, int]) -> None:
    """Raise MetricError unless a fused image has the (height, width) of its sources."""
    if shape != expected:
        raise MetricError(
            f"{path} is {shape[1]}×{shape[0]}, but its sources are {expected[1]}×{expected[0]}; "
            f"fuse them at their own size, or take the file out of the folder"
        )


def _file_hash(path: Path) -> str:
    """sha256 of a file, or the error of an image that cannot be read."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _known_rows(csv: Path | str | None) -> dict[Key, Row]:
    """The rows of the CSV of the last time, if there is one."""
    if csv is None or not Path(csv).is_file():
        return {}
    rows = [Row(*row) for row in read_values(csv).itertuples(index=False, name=None)]
    return {row[:4]: row for row in rows}


def _table(rows: list[Row], skipped: Mapping[Pair, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=Row._fields).drop(columns=FOLDER)
    frame.attrs["skipped"] = [(p.name, "damaged", why) for p, why in skipped.items()]
    return frame


def _write(csv: Path | str, rows: list[Row], folders: dict, others: list[Row] | None) -> None:
    """The CSV; where rows of others stay in it, with folders."""
    if others is None:
        write_values(_table(rows, {}), csv)
        return
    placed = [row._replace(folder=folders.get(row.method, "")) for row in rows]
    write_values(pd.DataFrame([*others, *placed], columns=Row._fields), csv)


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
