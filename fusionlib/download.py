"""Fetch the datasets that can be fetched; say where the others are and what to do by hand.

RoadScene and MSRS come over HTTP; LLVIP, M3FD and TNO need a browser. A download grows in
``<target>.part`` and gets its name once it is verified. An interrupted one is resumed where
something tells that the pieces belong together: a checksum, or what the server said of its version
of the file (a strong ETag, else Last-Modified), which is kept in ``<target>.part.json``.
"""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from itertools import chain
from pathlib import Path

import requests
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError

from fusionlib.archives import lock
from fusionlib.errors import DownloadError
from fusionlib.prepare import TERMS_FILE, Say, prepare
from fusionlib.sources import find_source, terms

CHUNK = 1 << 16
PAGE_STARTS = (b"<!doctype", b"<html")  # in lower case
BY_HAND = "python -m fusionlib data prepare {dataset} <the archive, or the unpacked folder>"


def fetch(
    url: str,
    target: Path | str,
    *,
    sha256: str | None = None,
    size: int | None = None,
    offline: bool = False,
    timeout: tuple[float, float] = (10, 60),
    progress: bool = True,
) -> Path:
    """Fetch a file into ``<target>.part`` and rename it once size and checksum are verified.

    A file that is there and fits is taken without any attempt.

    Args:
        url: what to fetch.
        target: where to put it; missing folders are made.
        sha256: enforced if given.
        size: in bytes; enforced if given.
        offline: make no attempt.
        timeout: seconds to connect, and seconds of silence.
        progress: show a bar.

    Raises:
        DownloadError: offline, network failure, a web page instead of a file, wrong size or hash.
    """
    target = Path(target)
    if _fits(target, sha256, size):
        return target
    if offline:
        wanted, by_hand = _words(url, target, sha256)
        raise DownloadError(f"{wanted} is not there, and this is offline. {by_hand}")
    _fetch_missing(url, target, sha256, size, timeout, progress)
    return target


def _words(url: str, target: Path, sha256: str | None) -> tuple[str, str]:
    """What a message calls a file, and how to get it by hand."""
    wanted = f"{target.name} (sha256 {sha256 or 'not known'})"
    return wanted, f"By hand: get {url} and put it at {target}."


def _fetch_missing(
    url: str,
    target: Path,
    sha256: str | None,
    size: int | None,
    timeout: tuple[float, float],
    progress: bool,
) -> None:
    part, got = target.with_name(target.name + ".part"), 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock(target, DownloadError):
            if _fits(target, sha256, size):  # another process fetched it meanwhile
                return
            try:
                if sha256 is None or not _fits(part, sha256, size):
                    _stream(url, part, sha256, timeout, progress)
                _verify(url, part, sha256, size)
                os.replace(part, target)
            finally:
                got = _tidy(url, part, sha256)
    except (OSError, HTTPError) as error:  # all exceptions of requests are OSErrors
        wanted, by_hand = _words(url, target, sha256)
        raise DownloadError(
            f"{wanted}: {url} failed after {got} bytes: {error}. Run again. {by_hand}"
        ) from error


def download(
    dataset: str,
    root: Path | str,
    *,
    cache: Path | str,
    offline: bool = False,
    say: Say = print,
) -> int:
    """Show the terms once, fetch the archive into ``cache``, `prepare` the dataset.

    Args:
        dataset: a key of `fusionlib.sources.SOURCES`.
        root: data root, with a folder for each dataset.
        cache: folder of the archives, ``<dataset>.zip``; one put there by hand is taken, too.
        offline: use only what is in ``cache``.
        say: gets the terms, and what was skipped.

    Returns:
        Number of pairs in place.

    Raises:
        DownloadError: not fetched, or only to be had by hand: the message says where and how.
        DatasetError: what came is not this dataset.
    """
    source = find_source(dataset)
    note = Path(root) / dataset / TERMS_FILE
    archive = Path(cache) / f"{dataset}.zip"
    if not note.is_file():
        say(f"{terms(dataset)}This note will be kept as {note}")
    if source.url is not None:
        fetch(source.url, archive, sha256=source.sha256, offline=offline)
    elif not archive.is_file():
        raise DownloadError(
            f"{dataset} cannot be fetched by a program. Page: {source.page}. {source.how}"
            f" Then: {BY_HAND.format(dataset=dataset)}."
            f" Or save a zip as {archive} and run this again."
        )
    return prepare(dataset, archive, root, say=say)


@dataclass(frozen=True)
class _Validator:
    """What a server said of its version of a file: a header that changes when the file does."""

    url: str
    header: str  # "ETag" or "Last-Modified"
    value: str

    def agrees_with(self, reply: requests.Response) -> bool:
        """Whether a reply with the rest of a file is of the same version.

        A server that sends a part has to repeat the ETag, but not Last-Modified.
        """
        missing = self.value if self.header == "Last-Modified" else None
        return reply.headers.get(self.header, missing) == self.value


def _validator_of(url: str, reply: requests.Response) -> _Validator | None:
    """What can ask for the rest of this reply later; None if nothing is sure enough (RFC 9110)."""
    if reply.headers.get("Content-Encoding", "identity").lower() != "identity":
        return None  # positions in the file are not those in the transfer
    etag = reply.headers.get("ETag")
    if etag is not None:
        is_strong = re.fullmatch(r'"[^"]*"', etag)  # a weak one, W/"…", survives small changes
        return _Validator(url, "ETag", etag) if is_strong else None
    modified = reply.headers.get("Last-Modified", "")
    try:
        age = parsedate_to_datetime(reply.headers.get("Date", "")) - parsedate_to_datetime(modified)
    except (ValueError, TypeError):
        return None
    # a file may change twice in one second, and the date tells no second change
    return _Validator(url, "Last-Modified", modified) if age >= timedelta(seconds=1) else None


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_validator(part: Path, url: str) -> _Validator | None:
    """The validator of a part from this address, if there is one."""
    try:
        validator = _Validator(**json.loads(_validator_file(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there, damaged, or of another version
        return None
    is_sound = validator.header in ("ETag", "Last-Modified") and isinstance(validator.value, str)
    return validator if is_sound and validator.url == url else None


def _write_validator(part: Path, validator: _Validator | None) -> None:
    file = _validator_file(part)
    if validator is None:
        file.unlink(missing_ok=True)
    else:
        file.write_text(json.dumps(asdict(validator)), encoding="utf-8")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def _tidy(url: str, part: Path, sha256: str | None) -> int:
    """Remove what an attempt left unless it can be resumed; returns how many bytes it had got."""
    got = part.stat().st_size if part.exists() else 0
    if not got or (sha256 is None and _read_validator(part, url) is None):
        _discard(part)
    return got


def _stream(
    url: str, part: Path, sha256: str | None, timeout: tuple[float, float], progress: bool
) -> None:
    """Fetch into ``part``, or the rest of it where that is safe."""
    validator = _read_validator(part, url)
    can_resume = part.exists() and (sha256 is not None or validator is not None)
    start = part.stat().st_size if can_resume else 0
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if validator is not None:
            headers["If-Range"] = validator.value  # the whole file if it has changed
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as reply:
        if reply.status_code in (206, 416) and not _is_rest(reply, start, validator):
            _discard(part)  # the next run starts afresh
            raise DownloadError(f"{url}: the server cannot resume after {start} bytes; run again.")
        reply.raise_for_status()
        if reply.status_code != 206:
            start = 0
        chunks = reply.iter_content(CHUNK)
        first = next(chunks, b"")
        if _is_page(reply, first, start):
            _discard(part)
            raise DownloadError(
                f"{url} answered with a web page, not a file (log-in, quota or error page)."
                " Open the address in a browser to see what it asks for."
            )
        length = reply.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        hidden = {} if progress else {"disable": True}  # unless told, TQDM_DISABLE decides
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, **hidden)
        with bar, part.open("ab" if start else "wb") as file:
            if not start:  # only now, the file is empty: old bytes never meet a new validator
                _write_validator(part, _validator_of(url, reply))
            for chunk in chain([first], chunks):
                file.write(chunk)
                bar.update(len(chunk))


def _is_rest(reply: requests.Response, start: int, validator: _Validator | None) -> bool:
    """Whether a reply holds everything from byte ``start`` on, of the version that was begun."""
    span = reply.headers.get("Content-Range", "")
    match = re.fullmatch(rf"bytes {start}-(\d+)/(\d+)", span)
    if reply.status_code != 206 or match is None or int(match[1]) + 1 != int(match[2]):
        return False
    return validator is None or validator.agrees_with(reply)


def _is_page(reply: requests.Response, first: bytes, start: int) -> bool:
    """Whether a reply is a web page, by its header or, at the start of a file, by its bytes."""
    if "text/html" in reply.headers.get("Content-Type", "").lower():
        return True
    text = first.lstrip(b"\xef\xbb\xbf \t\r\n").lower()  # behind a byte order mark, white space
    return not start and text.startswith(PAGE_STARTS)


def _fits(file: Path, sha256: str | None, size: int | None) -> bool:
    if not file.is_file() or (size is not None and file.stat().st_size != size):
        return False
    return sha256 is None or _sha256(file) == sha256.lower()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _verify(url: str, part: Path, sha256: str | None, size: int | None) -> None:
    """Remove a part that is not what was expected, and say so."""
    if _fits(part, sha256, size):
        return
    got = f"{part.stat().st_size} bytes, sha256 {_sha256(part)}"
    expected = f"{size or 'any number of'} bytes, sha256 {sha256 or 'not known'}"
    _discard(part)
    raise DownloadError(f"{url}: expected {expected}; got {got}. The download was removed.")
