"""Fetch files, unpack zips, and bring a dataset into ``<root>/<Dataset>/{ir,vi}/``."""

import filecmp
import os
import posixpath
import re
import shutil
import stat
import unicodedata
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pooch

from fusionlib.datasets import DATASETS, REAL, check_pair
from fusionlib.errors import DatasetError, DownloadError, FusionError
from fusionlib.files import USER_DATA, file_sha256, lock
from fusionlib.pairing import ALONE, Pair, first_names, images_by_stem, pair_folders

pooch.get_logger().setLevel("WARNING")

CACHE = USER_DATA / "downloads"  # of the zips
MAX_BYTES = 20 * 2**30  # the largest official archive unpacks to about 6 GB
MAX_RATIO = 200  # unpacked bytes over the bytes of the archive
MAX_MEMBERS = 200_000
TERMS_FILE = "TERMS.txt"
NO_PAIRS = ("detection", "__macosx")  # folders of MSRS (labelled scenes) and of macOS's zips


def fetch(
    url: str,
    target: Path | str,
    *,
    sha256: str | None = None,
    offline: bool = False,
    timeout: tuple[float, float] = (10, 60),
) -> Path:
    """Fetch a file unless it is there; it gets its name once verified, an old one stays till then.

    Args:
        url: what to fetch.
        target: where to put it.
        sha256: enforced; None accepts any zip.
        offline: make no attempt.
        timeout: seconds to connect, and seconds of silence.

    Raises:
        DownloadError: offline, network failure, another hash, or no zip where none is known.
    """
    target = Path(target)
    if target.is_file() and (sha256 is None or file_sha256(target) == sha256):
        return target
    wanted = f"{target.name} (sha256 {sha256 or 'not known'})"
    by_hand = f"By hand: get {url} and put it at {target}."
    if offline:
        raise DownloadError(f"{wanted} is not here and --offline forbids fetching. {by_hand}")

    def get(url: str, temporary: str, registry: object) -> None:
        os.remove(temporary)  # readable by its owner alone; the new one has the usual rights
        loader = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16, timeout=timeout)
        loader(url, temporary, registry)
        if sha256 is None and not zipfile.is_zipfile(temporary):
            raise ValueError(
                f"what came ({os.path.getsize(temporary)} bytes) is not a whole zip; look at it in "
                f"a browser (a page that asks for a log-in, or a quota?)"
            )

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock(Path(f"{target}.lock"), DownloadError, wait=True):
            pooch.retrieve(url, sha256, target.name, target.parent, downloader=get)
    except (OSError, ValueError) as error:  # all that requests and pooch raise
        raise DownloadError(f"{wanted}: {url} failed: {error}. Run again. {by_hand}") from error
    return target


def download(
    dataset: str, root: Path | str, *, cache: Path | str = CACHE, offline: bool = False
) -> int:
    """Print the terms once, fetch the zip into ``cache``, `prepare` the dataset.

    Args:
        dataset: one of `REAL`.
        root: data root, with a folder for each dataset.
        cache: folder of the zips, ``<dataset>.zip``; one put there by hand is taken, too.
        offline: use only what is in ``cache``.

    Returns:
        Number of pairs in place.

    Raises:
        DownloadError: not fetched, or only to be had by hand: the message says where and how.
        DatasetError: what came is not this dataset.
    """
    source = _source(dataset)
    note, archive = Path(root) / dataset / TERMS_FILE, Path(cache) / f"{dataset}.zip"
    if not note.is_file():
        print(f"{terms(dataset)}This note will be kept as {note}")
    if source.url:
        fetch(source.url, archive, offline=offline)
    elif not archive.is_file():
        raise DownloadError(
            f"{dataset} cannot be fetched by a program. Page: {source.page}. {source.how}. Then: "
            f"python -m fusionlib data prepare {dataset} <the zip, or the unpacked folder>. "
            f"Or save a zip as {archive} and run this again."
        )
    return prepare(dataset, archive, root)


def terms(dataset: str) -> str:
    """What the owner of a dataset allows, and its page; raises DatasetError for unknown ones."""
    source = _source(dataset)
    return f"{dataset}: {source.terms}\nFrom {source.page}; nothing of it is re-distributed here.\n"


def _source(dataset: str):
    if dataset not in REAL:
        raise DatasetError(f"No dataset {dataset!r}; there are {', '.join(REAL)}.")
    return DATASETS[dataset]


def extract(archive: Path | str, folder: Path | str) -> Path:
    """Unpack a zip that nobody vouches for into a new folder: all of it or nothing.

    Raises:
        DatasetError: damaged, encrypted, no zip, a bomb, a member that is a link or leads out of
            the folder, two members of one name, or something of the name of ``folder`` is there.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            zipfile.ZipFile(archive) as box,
            TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work,
        ):
            _check_members(box, archive)
            partial = Path(work) / "unpacked"
            box.extractall(partial)  # no member gives more than it declares
            partial.rename(folder)
    except FusionError:
        raise
    except Exception as error:  # zipfile raises almost anything on damaged files
        raise DatasetError(
            f"{archive} cannot be unpacked ({type(error).__name__}: {error}). If it is a zip, get"
            f" it again; if it is another kind of archive, unpack it and give the folder."
        ) from error
    return folder


def _check_members(box: zipfile.ZipFile, archive: Path) -> None:
    """Raise DatasetError if one of the members is not harmless, or all together are too large."""
    members, seen = box.infolist(), set()
    for member in members:
        member.filename = member.filename.replace("\\", "/")  # of programs for Windows
        name = posixpath.normpath(member.filename)
        key = unicodedata.normalize("NFC", name).casefold()
        kind, fault = stat.S_IFMT(member.external_attr >> 16), None
        if re.match(r"/|[A-Za-z]:|\.\.(/|$)", name):
            fault = "leads out of the folder"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            fault = "is a link or a device"
        elif key in seen:
            fault = "has the name of another member"
        if fault:
            raise DatasetError(f"{archive}: nothing was unpacked: {member.filename!r} {fault}.")
        if not member.is_dir():
            seen.add(key)
    size = sum(member.file_size for member in members)
    limit = min(MAX_BYTES, MAX_RATIO * archive.stat().st_size)
    if size > limit or len(members) > MAX_MEMBERS:
        raise DatasetError(
            f"{archive}: nothing was unpacked: {len(members)} members of {size} bytes, more than "
            f"{MAX_MEMBERS} or {limit} (a bomb)."
        )


def prepare(
    dataset: str, source: Path | str, root: Path | str, *, skip_orphans: bool = False
) -> int:
    """Copy a dataset from its official zip or folder to ``<root>/<dataset>/{ir,vi}``.

    The owner's folders are found anywhere below the source, in any case of letters, and paired by
    name. Files keep their bytes, nothing different is overwritten, the terms go to ``TERMS.txt``.

    Args:
        dataset: one of `REAL`.
        source: the zip, or the unpacked folder.
        root: data root, with a folder for each dataset.
        skip_orphans: leave out images without their other half, and print their names.

    Returns:
        Number of pairs in place.

    Raises:
        DatasetError: layout not found, orphans, sizes that differ, other files are there.
        PairError: one name twice in a folder, or a link out of it.
    """
    source, root = Path(source), Path(root)
    _source(dataset)
    if not source.exists():
        raise DatasetError(f"{source} does not exist; give the zip or folder of {dataset}.")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (
            lock(root / f".{dataset}.lock", DatasetError, wait=True),
            TemporaryDirectory(dir=root, prefix=f".{dataset}-") as work,
        ):
            if source.is_file():
                source = extract(source, Path(work) / "unpacked")
            pairs = _find_pairs(dataset, source, skip_orphans)
            _place(dataset, pairs, root / dataset, Path(work) / "staged")
    except OSError as error:
        raise DatasetError(f"{dataset} could not be put under {root}: {error}") from error
    return len(pairs)


def _find_pairs(dataset: str, source: Path, skip_orphans: bool) -> dict[str, Pair]:
    """Name in lower case → pair, of all pairs below a folder."""
    pairs, left_out = {}, []
    for ir, vi in _halves(dataset, source):
        for pair in pair_folders(ir, vi, dataset, on_bad="skip", left_out=left_out):
            if problem := check_pair(pair):
                raise DatasetError(problem)
            twin = pairs.setdefault(pair.name.casefold(), pair)
            if twin is not pair:
                raise DatasetError(f"{pair.name!r} is both {twin.ir} and {pair.ir}: give one.")
    if orphans := [str(p.relative_to(source)) for p, reason in left_out if reason == ALONE]:
        text = f"{len(orphans)} files without their other half: {first_names(orphans)}."
        if not skip_orphans:
            raise DatasetError(f"{source}: {text} Complete them, or skip them with --skip-orphans.")
        print(f"{source}: {text} They are left out.")
    if not pairs:
        wanted = " or ".join(f"{ir}/ and {vi}/" for ir, vi in DATASETS[dataset].layouts)
        text = f"{source}: no pairs of {dataset} found below it. Expected: {wanted}."
        raise DatasetError(f"{text} {DATASETS[dataset].how}")
    return pairs


def _halves(dataset: str, source: Path) -> list[tuple[Path, Path]]:
    """Infrared and visible folders below a folder, in any layout of the dataset."""
    foreign = {name.casefold() for name in DATASETS} - {dataset.casefold()} | {*NO_PAIRS}
    below = {".": source}  # path in lower case → folder
    for path, names, _ in os.walk(source):
        names[:] = sorted(n for n in names if n[0] != "." and n.casefold() not in foreign)
        for folder in (Path(path, name) for name in names):
            below[folder.relative_to(source).as_posix().casefold()] = folder
    found = {}
    for base in below:
        for layout in DATASETS[dataset].layouts:
            ir, vi = (below.get(os.path.normpath(f"{base}/{half.casefold()}")) for half in layout)
            if ir and vi:
                found[ir, vi] = None
    return list(found)


def _place(dataset: str, pairs: dict[str, Pair], folder: Path, stage: Path) -> None:
    """Copy the pairs to ``stage``, then move them into ``folder``; what is there stays."""
    for side in ("ir", "vi"):
        (stage / side).mkdir(parents=True)
        there = images_by_stem(folder / side) if (folder / side).is_dir() else {}
        there = {stem.casefold(): path for stem, path in there.items()}
        for key, pair in pairs.items():
            file: Path = getattr(pair, side)
            name = pair.name + file.suffix
            old = there.get(key)
            if old is None:
                shutil.copyfile(file, stage / side / name)
            elif old.name != name or not filecmp.cmp(old, file, shallow=False):
                raise DatasetError(f"{old} is there and differs from {file}: nothing was changed.")
    (stage / TERMS_FILE).write_text(terms(dataset), encoding="utf-8")
    for staged in [path for path in stage.rglob("*") if path.is_file()]:
        path = folder / staged.relative_to(stage)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(staged, path)
