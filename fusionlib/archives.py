"""Unpack archives that nobody vouches for: all of an archive or nothing, and only if all is well.

Accepted are zip and tar (plain, gz, bz2, xz). Every name and size is vetted before the first byte
is written; an archive is refused as a whole, with the offending member named, when

- a member is a link, a device or another special file,
- a name is absolute, starts with a drive, leads out of the folder, or is empty or too long,
- two names are one after normalisation (Unicode form, letter case, either slash), or one is a
  file where the other needs a folder,
- it holds more than `MAX_MEMBERS` members, or unpacks to more than `MAX_BYTES` or `MAX_RATIO`
  times its own size, or to more than the disk has free,
- a size is negative, or a member holds more than it declares,
- it is damaged, encrypted, or RAR or 7z.
"""

import lzma
import os
import platform
import re
import shutil
import stat
import struct
import tarfile
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from fusionlib.errors import DatasetError, FusionError

LOCK_LIMIT = 3600  # seconds; a lock held longer is reported, never broken
LOCK_POLL = 0.5  # seconds between two looks at who holds a lock
MAX_BYTES = 20 * 2**30  # the largest official archive unpacks to about 6 GB
MAX_RATIO = 200  # unpacked bytes over the bytes of the archive
MAX_MEMBERS = 200_000
MAX_NAME = 1024
MAX_TAR_META = 1 << 20  # a tar header with long names; tarfile reads it into memory as a whole
TAR_RECORD = 10_240  # a tar is padded with zeros to a multiple of this
CHUNK = 1 << 20
STAMP = ".fusionlib-unpacked"  # written last into an unpacked folder: what it was unpacked from

DAMAGE_ERRORS = (  # what the standard library raises on damaged archives and full disks
    OSError,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    MemoryError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)
Box = zipfile.ZipFile | tarfile.TarFile


@contextmanager
def lock(path: Path, error: type[FusionError]) -> Iterator[None]:
    """Hold ``<path>.lock`` while the body runs; other processes wait for it.

    Args:
        path: what the lock protects; need not exist, its folder must.
        error: raised when the lock cannot be made or is held for over `LOCK_LIMIT`.
    """
    file_lock = FileLock(f"{path}.lock")
    owner = Path(f"{path}.lock.owner")  # says who holds it, and by its time since when
    started = time.time()
    while not file_lock.is_locked:
        try:
            file_lock.acquire(timeout=LOCK_POLL)
        except Timeout:
            try:
                since, holder = owner.stat().st_mtime, owner.read_text("utf-8")
            except FileNotFoundError:  # the other process is about to release it
                since, holder = started, "another process"
            if time.time() - since > LOCK_LIMIT:
                raise error(
                    f"{path}.lock is held by {holder} for over {LOCK_LIMIT} s: wait, or end it."
                ) from None
        except OSError as problem:
            raise error(f"{path}.lock cannot be made: {problem}") from problem
    try:
        owner.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        file_lock.release()


def extract(archive: Path | str, target: Path | str, *, max_bytes: int = MAX_BYTES) -> Path:
    """Unpack a zip or tar (gz, bz2, xz) into the folder ``target``: all of it or nothing.

    A target that was unpacked from the same archive before is taken as it is.

    Raises:
        DatasetError: the archive is refused (see the module), damaged or missing; ``target`` holds
            other files.
    """
    archive, target = Path(archive), Path(target)
    if not archive.is_file():
        raise DatasetError(f"{archive} is not a file; give a zip or tar archive.")
    size, modified = archive.stat().st_size, archive.stat().st_mtime_ns
    stamp = f"{archive.name} {size} {modified}".encode(errors="surrogateescape")
    partial = target.with_name(f".{target.name}.unpacking")
    target.parent.mkdir(parents=True, exist_ok=True)
    with lock(target, DatasetError):
        if (target / STAMP).is_file() and (target / STAMP).read_bytes() == stamp:
            return target
        if target.exists() and (target.is_file() or any(target.iterdir())):
            raise DatasetError(f"{target} holds something else than {archive}: remove it first.")
        shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
        try:
            with _open(archive) as box:
                members = _vet(box, archive, max_bytes)
                _write(box, members, partial)
            (partial / STAMP).write_bytes(stamp)
            shutil.rmtree(target, ignore_errors=True)  # empty, see above
            partial.rename(target)
        except DAMAGE_ERRORS as error:
            reason = f"{type(error).__name__}: {error}"
            raise DatasetError(
                f"{archive} cannot be unpacked ({reason}); remove it and get it again."
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def fold_name(name: str) -> str:
    """What two names share that are one name on some file system: Unicode form and case dropped."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class _TarHeader(tarfile.TarInfo):
    """A header that is refused before tarfile trusts its size."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_TarHeader":
        header = super().frombuf(buf, encoding, errors)
        is_meta = header.type in (
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
        )
        if header.size < 0 or (is_meta and header.size > MAX_TAR_META):
            raise DatasetError(f"Nothing was unpacked: member {header.name!r} has a false size.")
        return header


@dataclass(frozen=True)
class _Member:
    """One entry of an archive, the same for zip and tar."""

    entry: zipfile.ZipInfo | tarfile.TarInfo
    written: str  # the name as it stands in the archive
    size: int  # declared, in bytes
    says_folder: bool
    is_special: bool  # link, device, pipe

    @property
    def name(self) -> str:
        return self.written.replace("\\", "/")

    @property
    def is_file(self) -> bool:
        return not (self.says_folder or self.name.endswith("/"))

    @property
    def parts(self) -> list[str]:
        return [part for part in self.name[:MAX_NAME].split("/") if part not in ("", ".")]


def _open(archive: Path) -> Box:
    with archive.open("rb") as stream:
        if stream.read(4) in (b"Rar!", b"7z\xbc\xaf"):
            raise DatasetError(f"{archive} is RAR or 7z: unpack it by hand and give the folder.")
    try:
        return tarfile.open(archive, tarinfo=_TarHeader)
    except tarfile.TarError:  # in this order: a tar may end in a zip, a zip never starts as a tar
        return zipfile.ZipFile(archive)


def _members(box: Box) -> Iterator[_Member]:
    if isinstance(box, zipfile.ZipFile):
        for entry in box.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)  # 0: written by a system without modes
            is_special = kind not in (0, stat.S_IFREG, stat.S_IFDIR)
            is_folder = entry.filename.endswith("/")  # its own is_dir fails without a name
            yield _Member(entry, entry.orig_filename, entry.file_size, is_folder, is_special)
    else:
        for entry in box:
            is_special = not (entry.isreg() or entry.isdir())
            yield _Member(entry, entry.name, entry.size, entry.isdir(), is_special)


def _vet(box: Box, archive: Path, max_bytes: int) -> list[_Member]:
    """Look at every member before anything is written; returns the files among them."""
    limit = min(max_bytes, MAX_RATIO * archive.stat().st_size)
    files: dict[str, _Member] = {}  # folded path → file
    folders: dict[str, str] = {}  # folded path → name of a member that needs this folder
    total = 0
    for count, member in enumerate(_members(box), start=1):
        total += member.size
        parts = member.parts
        paths = [fold_name("/".join(parts[: depth + 1])) for depth in range(len(parts))]
        fault = _name_fault(member)
        if not fault and member.is_file and paths[-1] in files:
            fault = "has the name of another member"
        elif not fault and count > MAX_MEMBERS:
            fault = f"is one of more than {MAX_MEMBERS} members"
        elif not fault and total > limit:
            fault = f"makes it {total} bytes, more than {limit} (an archive bomb)"
        if fault:
            raise DatasetError(
                f"{archive}: nothing was unpacked: member {member.written!r} {fault}."
            )
        if member.is_file:
            files[paths.pop()] = member
        folders |= dict.fromkeys(paths, member.written)
    for path in files.keys() & folders.keys():
        raise DatasetError(
            f"{archive}: nothing was unpacked: {folders[path]!r} meets a file's name."
        )
    return list(files.values())


def _name_fault(member: _Member) -> str:
    """What is wrong with a member by itself, or an empty string."""
    if member.is_special:
        return "is a link, a device or another special file"
    if member.name.startswith("/") or re.match("[A-Za-z]:", member.name):
        return "has an absolute name"
    if ".." in member.parts or "\0" in member.name:
        return "has a name that leads out of the folder"
    if len(member.name) > MAX_NAME or (member.is_file and not member.parts):
        return "has no name, or one that is too long"
    if member.size < 0:
        return "has a false size"
    return ""


def _write(box: Box, members: list[_Member], folder: Path) -> None:
    folder.mkdir()
    total = sum(member.size for member in members)
    free = shutil.disk_usage(folder).free
    if total > free:
        raise DatasetError(f"{folder.parent}: {total} bytes to unpack, but only {free} are free.")
    for member in members:
        _write_member(box, member, folder.joinpath(*member.parts))
    if isinstance(box, tarfile.TarFile):
        _read_to_end(box)


def _write_member(box: Box, member: _Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_zip = isinstance(box, zipfile.ZipFile)
    stream = box.open(member.entry) if is_zip else box.extractfile(member.entry)
    left = member.size
    with stream, path.open("xb") as file:
        while chunk := stream.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                name = "/".join(member.parts)
                raise DatasetError(f"Member {name!r} is over its size of {member.size}.")
            file.write(chunk)


def _read_to_end(box: tarfile.TarFile) -> None:
    """Read the zeros that end a tar: only behind them gzip, bz2 and xz check their sums."""
    left = MAX_RATIO * TAR_RECORD
    while chunk := box.fileobj.read(CHUNK):
        left -= len(chunk)
        if left < 0:
            raise DatasetError(f"{box.name}: more behind the last member than belongs to a tar.")
