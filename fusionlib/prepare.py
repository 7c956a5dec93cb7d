"""Bring a dataset from its official archive or folder into ``<root>/<Dataset>/{ir,vi}/``.

The owners' folders are found anywhere below the source, in any case of letters. Pairs are matched
by name, never by position. Nothing is converted: files keep their bytes.
"""

import filecmp
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from fusionlib.archives import extract, fold_name, lock
from fusionlib.datasets import DATASETS, LISTED, Pair, check_pair, leads_out
from fusionlib.errors import DatasetError, ImageError
from fusionlib.images import SUFFIXES, image_size
from fusionlib.sources import find_source, terms

TERMS_FILE = "TERMS.txt"
SIDES = ("ir", "vi")

# Children of one folder that hold the two halves, in lower case, infrared first. Wider than the
# layouts in datasets.py: those stand directly below a dataset's folder, these anywhere.
LAYOUTS = {
    "RoadScene": [("cropinfrared", "crop_lr_visible")],
    "MSRS": [("ir", "vi")],  # in train/ and test/ only; detection/ has other scenes and labels
    "LLVIP": [("infrared", "visible")],
    "M3FD": [("ir", "vis"), ("ir", "vi")],
    "TNO": [("ir", "vi"), ("ir", "vis")],
}
PARTS = ("train", "test")  # of MSRS above the two halves, of LLVIP in each of them

# TNO on figshare: sequences have a folder for each half, single scenes mark their file names.
TNO_IR = {"thermal", "rad"}
TNO_VI = {"visual", "dhv"}
TNO_MARKS = {
    "ir": "ir",
    "lwir": "ir",
    "thermal": "ir",
    "vis": "vi",
    "visual": "vi",
    "eo": "vi",
    "bunker_r": "vi",  # the one file without a mark
    "ii": "intensified",  # visible light, too; taken where there is no plain visible image
    "nir": "near infrared",  # never taken: reflected light, no heat
}
TNO_FRAME = re.compile(  # what a name has beside its frame: modality, camera, colour channel
    r"^(?:rad|dhv)|(?<=\d)[iv]$|(?<=[_-])[rgb]$"
    r"|(?<![a-z])(?:lwir|ir|thermal|visual|vis|eo|ii)(?![a-z])"
)
TNO_CAMERA = re.compile(r"_images$|^tno", re.IGNORECASE)  # folders above those of the scenes

Say = Callable[[str], None]
Pairs = dict[str, Pair]  # folded name → pair


def prepare(
    dataset: str,
    source: Path | str,
    root: Path | str,
    *,
    on_orphan: str = "error",
    say: Say = print,
) -> int:
    """Copy a dataset from its official archive or folder to ``<root>/<dataset>/{ir,vi}``.

    Files keep their bytes; pairs are found by stem; nothing different is overwritten. The terms go
    to ``TERMS.txt`` beside the pairs.

    Args:
        dataset: a key of `fusionlib.sources.SOURCES`.
        source: the archive, or the unpacked folder.
        root: data root, with a folder for each dataset.
        on_orphan: what to do with images without their other half: ``"error"`` or ``"skip"``.
        say: gets the list of what was skipped: orphans, and scenes of TNO without a pair.

    Returns:
        Number of pairs in place.

    Raises:
        DatasetError: layout not found, orphans, ambiguous names, sizes that differ, other files.
    """
    source, root = Path(source), Path(root)
    _check_arguments(dataset, source, on_orphan)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (
            lock(root / f".{dataset}", DatasetError),
            TemporaryDirectory(dir=root, prefix=f".{dataset}-") as work,
        ):
            if source.is_file():
                source = extract(source, Path(work) / "unpacked")
            pairs, skipped = _find_pairs(dataset, source, on_orphan)
            if skipped:
                say(f"{dataset}: {len(skipped)} skipped, no aligned pair: {', '.join(skipped)}")
            _place(dataset, pairs, root / dataset, Path(work) / "staged")
    except OSError as error:
        raise DatasetError(f"{dataset} could not be put under {root}: {error}") from error
    return len(pairs)


def _check_arguments(dataset: str, source: Path, on_orphan: str) -> None:
    find_source(dataset)
    if on_orphan not in ("error", "skip"):
        raise DatasetError(f"on_orphan={on_orphan!r}: 'error' or 'skip' is accepted.")
    if not source.exists():
        raise DatasetError(f"{source} does not exist; give the archive or folder of {dataset}.")


def _find_pairs(dataset: str, source: Path, on_orphan: str) -> tuple[Pairs, list[str]]:
    """All pairs below a folder, and what was skipped."""
    folders = _half_folders(dataset, source)
    if folders or dataset != "TNO":
        pairs, skipped = _match_by_stem(dataset, source, folders, on_orphan)
    else:
        pairs, skipped = _match_tno_scenes(source)
    if not pairs:
        wanted = " or ".join(f"{ir}/ and {vi}/" for ir, vi in [*LAYOUTS[dataset], SIDES])
        if any(folder.name.lower() == "crop_hr_visible" for folder in _walk(source)):
            wanted += "; crop_HR_visible/ is not pixel-aligned and never used"
        raise DatasetError(f"{source}: no pairs of {dataset} found below it. Expected: {wanted}.")
    return pairs, skipped


def _half_folders(dataset: str, source: Path) -> list[tuple[Path, Path]]:
    """Infrared and visible folders in this project's layout, else in the owner's."""
    own, official = [], []
    others = {name.lower() for name in DATASETS} - {dataset.lower()}
    for folder in _walk(source):
        if others & {part.lower() for part in folder.relative_to(source).parts}:
            continue  # of another dataset in the same root
        below = _subfolders(folder)
        name = folder.name.lower()
        if (folder == source or name == dataset.lower()) and "ir" in below and "vi" in below:
            own.append((below["ir"], below["vi"]))
        if dataset == "MSRS" and name not in PARTS:
            continue
        for ir, vi in LAYOUTS[dataset]:
            if ir in below and vi in below:
                official += [
                    (below[ir] / part, below[vi] / part)
                    for part in ("", *PARTS)
                    if (below[ir] / part).is_dir() and (below[vi] / part).is_dir()
                ]
    return own or official


def _match_by_stem(
    dataset: str, source: Path, folders: list[tuple[Path, Path]], on_orphan: str
) -> tuple[Pairs, list[str]]:
    pairs: Pairs = {}
    orphans: list[str] = []
    for ir_folder, vi_folder in folders:
        ir, vi = _images_by_stem(ir_folder), _images_by_stem(vi_folder)
        for stem in sorted(ir.keys() ^ vi.keys()):
            orphans.append((ir | vi)[stem].relative_to(source).as_posix())
        for stem in sorted(ir.keys() & vi.keys()):
            _add(pairs, Pair(dataset, ir[stem].stem, ir[stem], vi[stem]))
    if orphans and on_orphan == "error":
        more = f" and {len(orphans) - LISTED} more" if len(orphans) > LISTED else ""
        raise DatasetError(
            f"{source}: {len(orphans)} files without their other half:"
            f" {', '.join(orphans[:LISTED])}{more}."
            f" Complete them, or skip them with on_orphan='skip' (--skip-orphans)."
        )
    return pairs, orphans


def _match_tno_scenes(source: Path) -> tuple[Pairs, list[str]]:
    """Pairs of the tree on figshare; scenes with images that make no pair are skipped."""
    pairs: Pairs = {}
    skipped: list[str] = []
    for folder in _walk(source):
        files = _tno_files(folder)
        ir, vi = files.get("ir", []), files.get("vi") or files.get("intensified", [])
        is_single = len(ir) == len(vi) == 1
        ir_frames, vi_frames = _by_frame(ir, is_single), _by_frame(vi, is_single)
        scene, found = _scene_name(folder, source), 0
        for frame in sorted(ir_frames.keys() & vi_frames.keys()):
            if len(ir_frames[frame]) != 1 or len(vi_frames[frame]) != 1:
                continue  # which of them is meant?
            name = f"{scene}_{frame}" if frame else scene
            pair = Pair("TNO", name, ir_frames[frame][0], vi_frames[frame][0])
            if _has_one_size(pair):
                _add(pairs, pair)
                found += 1
        images = sum(len(group) for group in files.values())
        if found < max(len(ir_frames), len(vi_frames)) or (images and not found):
            skipped.append(f"{scene} ({found} pairs of {images} images)")
    return pairs, skipped


def _tno_files(folder: Path) -> dict[str, list[Path]]:
    """Images of a scene by what they are: a value of `TNO_MARKS`, or ``other``."""
    below = _subfolders(folder)
    ir = [below[name] for name in below if name in TNO_IR]
    vi = [below[name] for name in below if name in TNO_VI]
    if len(ir) == len(vi) == 1:  # a sequence
        return {
            "ir": list(_images_by_stem(ir[0]).values()),
            "vi": list(_images_by_stem(vi[0]).values()),
        }
    files: dict[str, list[Path]] = {}
    if folder.name.lower() in TNO_IR | TNO_VI:  # a half, taken with the folder above it
        return files
    for stem, file in _images_by_stem(folder).items():
        words = [stem, *re.findall("[a-z]+", stem)]
        mark = next((TNO_MARKS[word] for word in words if word in TNO_MARKS), "other")
        files.setdefault(mark, []).append(file)
    return files


def _by_frame(files: list[Path], is_single: bool) -> dict[str, list[Path]]:
    """Files by the frame in their names; the only pair of a scene has no frame."""
    frames: dict[str, list[Path]] = {}
    for file in files:
        frame = "" if is_single else TNO_FRAME.sub("", file.stem.lower()).strip("_- ")
        frames.setdefault(frame, []).append(file)
    return frames


def _scene_name(folder: Path, source: Path) -> str:
    """Folders below the camera's, joined: ``APC_1_view_1``."""
    parts = folder.relative_to(source).parts or (source.name,)
    cameras = [depth for depth, part in enumerate(parts) if TNO_CAMERA.search(part)]
    first = cameras[-1] + 1 if cameras else 0
    return "_".join(parts[first:]) or folder.name


def _walk(source: Path) -> Iterator[Path]:
    """The folder and all below it, without hidden ones and what macOS adds to archives."""
    for path, names, _ in os.walk(source):
        names[:] = sorted(name for name in names if name[0] != "." and name != "__MACOSX")
        yield Path(path)


def _subfolders(folder: Path) -> dict[str, Path]:
    """Name in lower case → folder."""
    return {child.name.lower(): child for child in folder.iterdir() if child.is_dir()}


def _images_by_stem(folder: Path) -> dict[str, Path]:
    """Folded stem → file."""
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in SUFFIXES or file.name[0] == "." or not file.is_file():
            continue
        if leads_out(file, folder):
            raise DatasetError(f"{file} is a link out of its folder: put the file itself there.")
        twin = files.setdefault(fold_name(file.stem), file)
        if twin != file:
            raise DatasetError(f"{folder}: {twin.name} and {file.name} are ambiguous.")
    return files


def _add(pairs: Pairs, pair: Pair) -> None:
    """Add a pair; one that is there already, in another folder, must have the same bytes."""
    if not _has_one_size(pair):
        raise DatasetError(f"{pair.ir} and {pair.vi}: {check_pair(pair)}. The pair is not aligned.")
    twin = pairs.setdefault(fold_name(pair.name), pair)
    for old, new in ((twin.ir, pair.ir), (twin.vi, pair.vi)):
        if old != new and not filecmp.cmp(old, new, shallow=False):
            raise DatasetError(
                f"Two different pairs {pair.name!r}: {old} and {new}. Give one folder."
            )


def _has_one_size(pair: Pair) -> bool:
    try:
        return image_size(pair.ir) == image_size(pair.vi)
    except ImageError as error:
        raise DatasetError(str(error)) from error


def _place(dataset: str, pairs: Pairs, folder: Path, stage: Path) -> None:
    """Copy the pairs to ``stage``, then move them into ``folder``; what is there stays."""
    moves: list[tuple[Path, Path]] = []
    for side in SIDES:
        (stage / side).mkdir(parents=True)
        present = _images_by_stem(folder / side) if (folder / side).is_dir() else {}
        for key, pair in pairs.items():
            file: Path = getattr(pair, side)
            name = pair.name + file.suffix
            old = present.get(key)
            if old is None:
                shutil.copyfile(file, stage / side / name)
                moves.append((stage / side / name, folder / side / name))
            elif old.name != name or not filecmp.cmp(old, file, shallow=False):
                raise DatasetError(f"{old} is there and differs from {file}: nothing was changed.")
    (stage / TERMS_FILE).write_text(terms(dataset), encoding="utf-8")
    moves.append((stage / TERMS_FILE, folder / TERMS_FILE))
    if not folder.exists():
        stage.rename(folder)
        return
    for staged, path in moves:
        path.parent.mkdir(exist_ok=True)
        os.replace(staged, path)
