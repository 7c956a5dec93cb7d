"""Spoiled files through every reader of files from outside; `make fuzz` runs it for ten minutes.

A sound file is made by code, then spoiled: cut, bits flipped, bytes of the header or lengths
overwritten, parts dropped, repeated or taken from another file. Case ``(seed, index)`` is always
the same. The reader must give what is right, or a `FusionError` that names the file. Everything
else is a fault: another exception, a warning, a crash, a hang, a wrong result.

    python tests/fuzz.py --seconds 600 --seed 1
    python tests/fuzz.py --case 1 4711          # one case again, its file is kept
"""

import argparse
import json
import multiprocessing
import os
import random
import resource
import struct
import sys
import time
import traceback
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from sound import MEMBERS, Sound, sound_files

from fusionlib.download import extract
from fusionlib.errors import FusionError
from fusionlib.images import image_size, luma8, read_ir, read_luma8, read_vi
from fusionlib.splits import read_split
from fusionlib.weights import load_weights

HANG_SECONDS = 30  # without a finished case
MEMORY = 24 * 2**30  # address space; torch alone reserves some of it
MAX_PIXELS = 200_000
NOTE = "are converted through RGB"  # the one warning that is meant
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


class WrongError(Exception):
    """A reader gave something that cannot be right."""


@dataclass
class Report:
    """What became of the cases: (kind, outcome) → count, and what went wrong."""

    counts: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{sum(self.counts.values())} files, {len(self.faults)} faults"]
        lines += [
            f"  {kind:9s} {what:8s} {n:7d}" for (kind, what), n in sorted(self.counts.items())
        ]
        return "\n".join([*lines, *self.faults])


# Spoiling


def spoil(sound: Sound, others: list[Sound], rng: random.Random) -> tuple[bytes, list[str]]:
    """One to three changes; returns the bytes and what was done."""
    data, done = bytearray(sound.data), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice(CHANGES)
        data = bytearray(change(data, rng, others)) if data else data
        done.append(change.__name__)
    return bytes(data), done


def cut(data, rng, others):
    return data[: rng.randrange(len(data))]


def flip(data, rng, others):
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def header(data, rng, others):
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(min(len(data), 128))] = rng.choice((rng.randrange(256), 0, 255))
    return data


def number(data, rng, others):
    """Overwrite what may be a length, an offset or a side."""
    value, size = rng.choice(EXTREMES), rng.choice((1, 2, 4))
    at = rng.randrange(min(len(data), rng.choice((64, 512, 1 << 30))))
    value = (value & (1 << 8 * size) - 1).to_bytes(size, rng.choice(("little", "big")))
    data[at : at + size] = value
    return data


def drop(data, rng, others):
    at = rng.randrange(len(data))
    del data[at : at + rng.randint(1, 64)]
    return data


def repeat(data, rng, others):
    at = rng.randrange(len(data))
    part = data[at : at + rng.randint(1, 64)]
    return data[:at] + part * rng.randint(1, 40) + data[at:]


def insert(data, rng, others):
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randint(1, 32)) + data[at:]


def zero(data, rng, others):
    at = rng.randrange(len(data))
    part = data[at : at + rng.randint(1, 64)]
    return data[:at] + bytes(len(part)) + data[at + len(part) :]


def splice(data, rng, others):
    other = rng.choice(others).data
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def chunk(data, rng, others):
    """Change the contents of one chunk of a PNG and make its checksum fit; else flip."""
    chunks = list(_png_chunks(bytes(data)))
    if not chunks:
        return flip(data, rng, others)
    at, name, body = rng.choice(chunks)
    end = at + 12 + len(body)
    if name == b"IDAT" and rng.random() < 0.5:  # the pixels, not their compression
        try:
            raw = bytearray(zlib.decompressobj().decompress(body, 1 << 20))
        except zlib.error:  # an earlier change hit it
            return data
        raw = rng.choice((cut, flip, zero))(raw, rng, others) if raw else raw
        body = bytearray(zlib.compress(raw))
    elif body:
        body = bytearray(rng.choice((cut, flip, number, insert))(bytearray(body), rng, others))
    sealed = struct.pack(">I", zlib.crc32(name + bytes(body)))
    return data[:at] + struct.pack(">I", len(body)) + name + body + sealed + data[end:]


CHANGES = (cut, flip, header, number, drop, repeat, insert, zero, splice, chunk)


def _png_chunks(data: bytes):
    """(start, name, contents) of the chunks of a PNG, as far as they are whole."""
    at = 8 if data.startswith(b"\x89PNG\r\n\x1a\n") else len(data)
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + size > len(data):
            return
        yield at, data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size


# Reading: each raises a FusionError, or WrongError, or returns


def check_image(path: Path, sound: Sound, done: list[str], folder: Path) -> None:
    read = {}
    for reader in (read_ir, read_vi, read_luma8, image_size):
        limit = {"max_pixels": MAX_PIXELS} if reader in (read_ir, read_vi) else {}
        try:
            read[reader] = reader(path, **limit)
        except FusionError as error:
            read[reader] = None
            last = error
            if str(path) not in str(error):
                raise WrongError(f"the message does not name the file: {error}") from error
    if read[read_vi] is None:
        if read[read_ir] is not None:
            raise WrongError("infrared but not visible")
        raise last
    vi, grey, size = read[read_vi], read[read_luma8], read[image_size]
    _expect(vi.dtype == np.float32 and vi.ndim == 3 and vi.shape[2] == 3, f"{vi.dtype} {vi.shape}")
    _expect(bool(vi.min() >= 0 and vi.max() <= 1), f"from {vi.min()} to {vi.max()}")
    _expect(size == vi.shape[:2], f"{vi.shape}, but image_size says {size}")
    _expect(grey is not None and np.abs(luma8(vi).astype(int) - grey).max() <= 1, "other luma")
    if (ir := read[read_ir]) is not None:
        _expect(ir.dtype == np.float32 and ir.shape == size, f"{ir.dtype} {ir.shape}")
        _expect(np.abs(ir * 255 - grey).max() <= 0.5 + 1e-3, "infrared is not the luma")
    _check_pixels(path, sound, done, vi)


def _check_pixels(path: Path, sound: Sound, done: list[str], vi: np.ndarray) -> None:
    """What a format tells of its pixels must be so."""
    resealed = {"chunk", "splice"} & set(done)
    if set(done) == {"cut"} or (sound.checked and not resealed):
        whole = path.with_name(f"whole-{sound.name}")
        whole.write_bytes(sound.data)
        expected = read_vi(
            whole, frame=0 if "frames" in sound.name or "pages" in sound.name else None
        )
        _expect(vi.shape == expected.shape and bool((vi == expected).all()), "other pixels")
    chunks = [(name, body) for _, name, body in _png_chunks(path.read_bytes())]
    if chunks and chunks[0][0] == b"IHDR" and b"acTL" not in dict(chunks):
        width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", chunks[0][1][:13])
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
        packed = b"".join(body for name, body in chunks if name == b"IDAT")
        raw = zlib.decompressobj().decompress(packed)
        needed = height * (1 + (width * depth * channels + 7) // 8)
        _expect(interlaced or len(raw) >= needed, f"{len(raw)} bytes of pixels for {needed}")


def check_archive(path: Path, sound: Sound, done: list[str], folder: Path) -> None:
    out = folder / "out"
    before = set(folder.iterdir())
    try:
        extract(path, out)
        files = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name[0] != "."}
        _expect(all(p.resolve().is_relative_to(out.resolve()) for p in files), "outside")
        if sound.checked and "splice" not in done:
            strange = [p for p, data in files.items() if data not in MEMBERS.values()]
            _expect(not strange, f"other contents: {strange}")
    finally:
        for file in set(folder.iterdir()) - before:
            if file.name not in ("out", "out.lock"):
                raise WrongError(f"left behind: {file.name}")


def check_weights(path: Path, sound: Sound, done: list[str], folder: Path) -> None:
    data = path.read_bytes()
    digest = sha256(data if sound.kind == "sealed" else sound.data).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest}), encoding="utf-8")
    loaded = load_weights(path)
    _expect(sound.kind == "sealed" or data == sound.data, "damage was not found")
    _expect(loaded.sha256 == digest, "other checksum")


def check_record(path: Path, sound: Sound, done: list[str], folder: Path) -> None:
    weights = next(s for s in SOUND if s.kind == "weights")
    path.with_suffix(".safetensors").write_bytes(weights.data)
    _expect(load_weights(path.with_suffix(".safetensors")).record == {"steps": 1}, "other record")


def check_split(path: Path, sound: Sound, done: list[str], folder: Path) -> None:
    for name, part in read_split("TNO", path.parent).items():
        _expect(part in ("train", "val", "test", ""), part)
        _expect(not set("/\\\n\r\0") & set(name) and name not in ("", ".", ".."), repr(name))


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise WrongError(otherwise)


READERS = {
    "image": check_image,
    "archive": check_archive,
    "weights": check_weights,
    "sealed": check_weights,
    "record": check_record,
    "split": check_split,
}
SHARES = {"image": 12, "archive": 3, "sealed": 2}  # of the cases; 1 for the others
SOUND: list[Sound] = []  # of this process


def case(seed: int, index: int) -> tuple[Sound, bytes, list[str]]:
    """The sound file, the spoiled bytes and the changes of a case."""
    if not SOUND:
        SOUND.extend(sound_files())
    rng = random.Random(f"{seed}:{index}")
    kind = rng.choice([kind for kind in READERS for _ in range(SHARES.get(kind, 1))])
    same = [sound for sound in SOUND if sound.kind == kind]
    sound = rng.choice(same)
    return sound, *spoil(sound, same, rng)


def run_case(seed: int, index: int, folder: Path) -> tuple[str, str, str]:
    """Kind, outcome and, of a fault, its description."""
    sound, data, done = case(seed, index)
    path = folder / sound.name
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)  # of the libraries, not of the file
        try:
            READERS[sound.kind](path, sound, done, folder)
            outcome, told = "read", ""
        except FusionError:
            outcome, told = "refused", ""
        except WrongError as error:
            outcome, told = "wrong", str(error)
        except Exception:
            outcome, told = "raised", traceback.format_exc(limit=-4)
    strange = [str(note.message) for note in noted if NOTE not in str(note.message)]
    if strange and not told:
        outcome, told = "warned", strange[0]
    return sound.kind, outcome, told and f"{outcome}: {sound.name}, {'+'.join(done)}: {told}"


# Running


def _work(seed: int, first: int, last: int, until: float, done, pipe) -> None:
    """A process of its own, so that a crash or hang ends one case and not the run."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff's remarks
    for index in range(first, last):
        if time.time() > until:
            break
        with TemporaryDirectory() as folder:
            pipe.send((index, *run_case(seed, index, Path(folder))))
        done.value = index + 1
    pipe.send(None)


def fuzz(seed: int, cases: int, seconds: float = float("inf")) -> Report:
    """Runs cases ``0…cases`` of a seed, or as many as there is time for."""
    report, until, context = Report(), time.time() + seconds, multiprocessing.get_context("spawn")
    first, finished = 0, False
    while not finished and first < cases and time.time() < until:
        done = context.Value("q", first)
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=_work, args=(seed, first, cases, until, done, theirs))
        worker.start()
        theirs.close()
        fate = ""
        while not fate and not finished:
            try:
                # importing and making the sound files takes longer than any case
                patience = HANG_SECONDS * (4 if done.value == first else 1)
                message = ours.recv() if ours.poll(patience) else "hang"
            except EOFError:
                worker.join()
                fate = f"crash, exit code {worker.exitcode}"
                continue
            if message == "hang":
                fate = "hang"
            elif message is None:
                finished = True
            else:
                index, kind, outcome, told = message
                report.counts[kind, outcome] += 1
                report.faults += [f"case {seed} {index}: {told}"] if told else []
        worker.kill()
        worker.join()
        if fate:
            sound, _, changes = case(seed, done.value)
            report.counts[sound.kind, fate.split(",")[0]] += 1
            report.faults.append(f"case {seed} {done.value}: {fate}: {sound.name}, {changes}")
            first = done.value + 1
    return report


def main() -> int:
    """Command line; exit status 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    parser.add_argument("--case", type=int, nargs=2, metavar=("SEED", "INDEX"))
    options = parser.parse_args()
    if options.case:
        sound, data, done = case(*options.case)
        Path(f"spoiled-{sound.name}").write_bytes(data)
        with TemporaryDirectory() as folder:
            print(f"spoiled-{sound.name}: {done}", *run_case(*options.case, Path(folder)), sep="\n")
        return 0
    seed = int(time.time()) if options.seed is None else options.seed
    print(f"seed {seed}, {options.seconds:g} s", flush=True)
    report = fuzz(seed, 1 << 62, options.seconds)
    print(report)
    return bool(report.faults)


if __name__ == "__main__":
    sys.exit(main())
