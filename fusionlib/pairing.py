"""Which infrared image belongs to which visible one: by name, by what is left of it, by a list."""

import csv
import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fusionlib.errors import DatasetError, PairError
from fusionlib.images import SUFFIXES

LISTED = 10  # names a message spells out
ALONE = "no partner of that name"  # why an image is left out
WAY_ON = "--pairs list.csv (columns ir, vi, name) pairs any names"
NO_PARTNER = (
    "Every infrared image needs a visible one with the same name (extensions may differ). "
    f"--on-bad skip leaves such images out, {WAY_ON}"
)


class PairingWarning(UserWarning):
    """Images were paired by something other than equal names."""


@dataclass(frozen=True)
class Pair:
    """Two registered images of one scene, on disk.

    Raises:
        PairError: name or dataset cannot be part of a file name, such as ``../x``.
    """

    dataset: str
    name: str
    ir: Path
    vi: Path

    def __post_init__(self):
        for word in (self.name, self.dataset or "-"):  # results are named after them
            if not is_plain_name(word):
                raise PairError(f"{word!r}: a separator, a control character or '..' in a name")


def pair_folders(
    ir: Path | str,
    vi: Path | str,
    dataset: str = "",
    *,
    follow_links: bool = False,
    on_bad: Literal["error", "skip"] = "error",
    left_out: list[tuple[Path, str]] | None = None,
) -> list[Pair]:
    """Match the images of two folders by name (never by position), sorted by name.

    Equal stems belong together. Where none is equal, the words that all names of one folder have
    and none of the other are taken out (``IR_1`` and ``VIS_1``), if what is left pairs all images.

    Args:
        ir: folder of infrared images.
        vi: folder of visible images.
        dataset: written into the pairs.
        follow_links: accept images that are links to files outside their folder.
        on_bad: images without a partner are an error, or left out.
        left_out: if given, gets every file of the folders that is in no pair, and why.

    Raises:
        PairError: images without a partner, two images with one stem, a link out of the folder,
            one folder for both sides, or a control character or backslash in a name.
        DatasetError: a folder is missing.

    Warns:
        PairingWarning: no names are equal; which parts of them were compared.
    """
    ir, vi, left_out = Path(ir), Path(vi), [] if left_out is None else left_out
    ir_files, vi_files = (images_by_stem(side, follow_links, left_out) for side in (ir, vi))
    if ir.samefile(vi):
        raise PairError(f"{ir} and {vi} are one folder; give two, or {WAY_ON}")
    if not ir_files.keys() & vi_files:
        ir_files, vi_files = _without_cameras(ir_files, vi_files)
    alone, sides = [], ((ir, ir_files, vi_files), (vi, vi_files, ir_files))
    for folder, files, others in sides:
        if orphans := sorted(files[key] for key in files.keys() - others):
            left_out += [(path, ALONE) for path in orphans]
            alone.append(f"only in {folder}: {first_names([path.name for path in orphans])}")
    if alone and on_bad == "error":
        raise PairError(f"{'; '.join(alone)}. {NO_PARTNER}")
    both = sorted(ir_files.keys() & vi_files)
    return [Pair(dataset, key, ir_files[key], vi_files[key]) for key in both]


def read_pairs(path: Path | str, dataset: str = "") -> list[Pair]:
    """Pairs of a CSV with the columns ir, vi and, if wanted, name, in its order.

    Args:
        path: the CSV, separated by commas or, as Excel may write it, semicolons; the files in it
            are relative to its folder. Without a name a pair is called as its visible image.
        dataset: written into the pairs.

    Raises:
        PairError: not such a CSV, an empty cell, or two pairs with one name.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PairError(f"{path}: cannot be read as a CSV in UTF-8 ({error})") from error
    head = text.partition("\n")[0].lower()
    text = head + text[len(head) :]
    rows = csv.DictReader(text.splitlines(), delimiter=";" if ";" in head else ",")
    if not {"ir", "vi"} <= set(columns := rows.fieldnames or ()):
        raise PairError(f"{path}: expected the columns ir, vi and perhaps name, not {head!r}")
    pairs: dict[str, Pair] = {}
    for row in rows:
        ir, vi, name = ((row.get(key) or "").strip() for key in ("ir", "vi", "name"))
        if not (ir and vi) or row.get(None):
            raise PairError(f"{path}, line {rows.line_num}: expected {', '.join(columns)}")
        ir, vi = (path.parent / Path(file).expanduser() for file in (ir, vi))
        pair = Pair(dataset, unicodedata.normalize("NFC", name or vi.stem), ir, vi)
        if pairs.setdefault(pair.name.casefold(), pair) is not pair:
            raise PairError(
                f"{path}, line {rows.line_num}: a second pair called {pair.name!r}; results are "
                f"named after the column name, or else after the visible image"
            )
    return list(pairs.values())


def images_by_stem(
    folder: Path, follow_links: bool = False, left_out: list[tuple[Path, str]] | None = None
) -> dict[str, Path]:
    """Normalised stem → file; see `pair_folders`."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    files: dict[str, Path] = {}
    folded: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if reason := _why_no_image(path):
            if left_out is not None:
                left_out.append((path, reason))
            continue
        key = unicodedata.normalize("NFC", path.stem)
        if not is_plain_name(key):
            raise PairError(f"{str(path)!r}: control character or backslash in a name; rename it")
        is_link = path.is_symlink() and not follow_links
        if is_link and not path.resolve().is_relative_to(folder.resolve()):
            raise PairError(
                f"{path} is a link out of its folder, to {path.resolve()}; copy the file, link the "
                f"whole folder instead, or allow it with --follow-links"
            )
        if not path.is_file():
            raise PairError(f"{path}: not a file; remove it or give it another name")
        rival = folded.setdefault(key.casefold(), path)
        if rival is not path:
            raise PairError(f"{rival} and {path.name} have one stem; which of them is meant?")
        files[key] = path
    return files


def first_names(names: Sequence[str]) -> str:
    """The first ten of some names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED])}{more}"


def is_plain_name(name: str) -> bool:
    """Whether a name can stand in a list and names a file of this folder, no other."""
    barred = ("Cc", "Cs", "Zl", "Zp")  # control, not Unicode, line and paragraph separators
    return name not in ("", ".", "..") and not any(
        letter in "/\\" or unicodedata.category(letter) in barred for letter in name
    )


def _why_no_image(path: Path) -> str:
    """Why an entry of a folder is not looked at, or an empty string."""
    if path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() in SUFFIXES:
        return ""
    return "a folder" if path.is_dir() else f"none of {', '.join(SUFFIXES)}"


def _without_cameras(
    ir: dict[str, Path], vi: dict[str, Path]
) -> tuple[dict[str, Path], dict[str, Path]]:
    """The files under what is left of their names, where that pairs all of them, else as given."""
    for words in (r"[^\W_]+", r"[^\W\d_]+"):  # IR_1 and VIS_1, then IR1 and V1
        one, two = _cameras(words, ir, vi), _cameras(words, vi, ir)
        if {re.sub(r"\d", "", word) for word in one} & {re.sub(r"\d", "", word) for word in two}:
            continue  # two numbers or two days may tell the sides apart, not the cameras
        ir_names, vi_names = _left(words, one, ir), _left(words, two, vi)
        if not ir_names or ir_names.keys() != vi_names.keys():
            continue
        name = min(ir_names)
        warnings.warn(
            f"no names are equal: {ir_names[name].name} is paired with {vi_names[name].name} as "
            f"{name}{', others likewise' if ir_names.keys() - {name} else ''}; if that is wrong, "
            f"{WAY_ON}",
            PairingWarning,
            stacklevel=3,
        )
        return ir_names, vi_names
    return ir, vi


def _cameras(words: str, stems: Iterable[str], others: Iterable[str]) -> set[str]:
    """The words, not numbers, that all of these names have and none of the others."""
    found = [set(re.findall(words, stem)) for stem in stems]
    common = set.intersection(*found) if found else set()
    return {
        w for w in common.difference(*(re.findall(words, o) for o in others)) if not w.isdigit()
    }


def _left(words: str, cameras: set[str], files: dict[str, Path]) -> dict[str, Path]:
    """Name without these words → file; empty if that leaves nothing of one, or two alike."""
    left = {}
    for stem, path in files.items():
        name = re.sub(words, lambda word: "" if word[0] in cameras else word[0], stem)
        name = re.sub(r"([-_ .])\1+", r"\1", name).strip("-_ .")
        if not re.search(r"[^\W_]", name):
            return {}
        left[name] = path
    return left if len(left) == len(files) else {}
