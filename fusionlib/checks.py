"""What is wrong or doubtful with pairs, as rows of ``issues.csv``.

Damage, a shift between the halves, swapped folders, images that are not those of the committed
lists. Faults are errors unless they are to be skipped; doubts never stop anything.
"""

import csv
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from skimage.filters import gaussian, sobel_h, sobel_v, window
from skimage.registration import phase_cross_correlation

from fusionlib.datasets import check_pair, load_pair
from fusionlib.decoding import FrameWarning
from fusionlib.errors import FusionError, ImageError, PairError
from fusionlib.files import write_atomically
from fusionlib.images import aspect, image_size, is_grey, luma, pixel_sha256, read_vi
from fusionlib.levels import LevelsWarning
from fusionlib.pairing import Pair, first_names
from fusionlib.palettes import PaletteWarning
from fusionlib.splits import SPLITS, read_list

Array = np.ndarray

# warning → status of an issue
NOTED = {FrameWarning: "frame", LevelsWarning: "clipped", PaletteWarning: "palette"}
MAX_SHIFT = 0.03  # of the width; more is reported
WIDTH = 256  # shifts are looked for in images of this width
LEAST_SIDE = 48  # smaller images have too few edges to tell
AGREEMENT = 0.015  # of the width, by which shifts of the whole and of its parts may differ


class Issue(NamedTuple):
    """One row of ``issues.csv``.

    Attributes:
        dataset: of the pair; empty for folders.
        name: of the pair; empty if the whole set is meant.
        status: ``damaged``, ``left out``, ``frame``, ``clipped``, ``palette``, ``misaligned``,
            ``swapped``, ``resized``, ``stretched``, ``changed``, ``missing`` or ``unlisted``.
        detail: for people.
    """

    dataset: str
    name: str
    status: str
    detail: str


def require_apart(targets: Iterable[Path], sources: Iterable[Path]) -> None:
    """Raise FusionError if a target is a source by any spelling or link: it would be lost."""

    def files(paths: Iterable[Path]) -> Iterator[tuple[tuple[int, int], Path]]:
        for path in paths:
            with suppress(OSError):  # a source that is not there is reported where it is read
                yield (path.stat().st_dev, path.stat().st_ino), path

    found = dict(files(sources))
    for key, target in files(targets):
        if key in found:
            raise FusionError(
                f"{target} is the source {found[key]} itself, which would be lost; give -o another "
                f"name or folder"
            )


def require_fitting(
    pairs: Sequence[Pair], *, resize: str | None = None, frame: int | None = None
) -> None:
    """Raise PairError if the headers show pairs that cannot be read, or of differing sizes."""
    reasons = [check_pair(pair, resize=resize, frame=frame) for pair in pairs]
    if wrong := [reason for reason in reasons if reason]:
        more = f"{len(wrong)} of {len(pairs)} pairs cannot be fused, --on-bad skip leaves them out"
        raise PairError(f"{wrong[0]}; {more}" if len(pairs) > 1 else wrong[0])


def read_pairs(
    pairs: Iterable[Pair],
    issues: list[Issue],
    *,
    on_bad: Literal["error", "skip"] = "error",
    **reading: object,
) -> Iterator[tuple[Pair, Array, Array]]:
    """Read pairs one after the other, and look at each.

    Args:
        pairs: what to read.
        issues: gets what is wrong or doubtful: damaged (where skipped), clipped, resized,
            stretched and probably shifted pairs and, in the end, whether the sides look swapped.
        on_bad: a pair that cannot be read is an error, or an issue and left out.
        reading: options of `fusionlib.datasets.load_pair`.

    Yields:
        The pair, infrared (H, W) and visible RGB (H, W, 3), both float32 in [0, 1].

    Raises:
        ImageError, PairError: a pair cannot be read, unless such pairs are skipped.
    """
    dataset, swapped, start = None, True, len(issues)  # swapped until a pair says otherwise
    for pair in pairs:
        try:
            ir, vi, notes = _read(pair, reading)
        except (ImageError, PairError) as error:
            hint = _has_colour(pair.ir) is True and _has_colour(pair.vi) is False
            hint = ". The visible image is grey: are the two swapped?" if hint else ""
            if on_bad == "error":
                raise type(error)(f"{error}{hint}") from error
            issues.append(Issue(pair.dataset, pair.name, "damaged", f"{error}{hint}"))
            continue
        issues += [Issue(pair.dataset, pair.name, status, text) for status, text in notes]
        dataset = pair.dataset
        swapped = swapped and is_grey(vi) and bool(_has_colour(pair.ir))
        yield pair, ir, vi
    if dataset is not None and swapped:
        detail = "all visible images are grey and all infrared ones coloured: swapped folders?"
        issues.insert(start, Issue(dataset, "", "swapped", detail))


def inspect_pairs(
    pairs: Iterable[Pair], *, on_bad: Literal["error", "skip"] = "error", **reading: object
) -> tuple[list[Pair], list[Issue]]:
    """Read pairs as `read_pairs` does, and keep which can be used, and the issues."""
    issues: list[Issue] = []
    good = [pair for pair, *_ in read_pairs(pairs, issues, on_bad=on_bad, **reading)]
    return good, issues


def _read(pair: Pair, reading: dict) -> tuple[Array, Array, list[tuple[str, str]]]:
    """Both images, and what is doubtful about them: status and text."""
    with warnings.catch_warnings(record=True) as caught:
        for category in NOTED:
            warnings.simplefilter("always", category)
        ir, vi = load_pair(pair, **reading)
    notes = [(NOTED[w.category], str(w.message)) for w in caught if w.category in NOTED]
    for other in (warning for warning in caught if warning.category not in NOTED):
        warnings.warn(other.message, stacklevel=3)
    if reading.get("resize") and (size := image_size(pair.ir, reading.get("frame"))) != ir.shape:
        (old_height, old_width), (height, width) = size, ir.shape
        text = f"infrared from {old_width}×{old_height} to {width}×{height}"
        notes.append(("resized", text))
        if text := aspect(size, ir.shape):
            notes.append(("stretched", text))
    moved = shift(ir, luma(vi))
    if moved is not None and np.hypot(*moved) > MAX_SHIFT:
        text = "possibly: the halves seem to be {:+.0%} across and {:+.0%} down apart"
        notes.append(("misaligned", text.format(*moved)))
    return ir, vi, notes


def _has_colour(path: Path) -> bool | None:
    """Whether a file has colour; None if it cannot be read without a range, or at all."""
    with warnings.catch_warnings(), suppress(ImageError):
        warnings.simplefilter("ignore")  # said where the pair is read
        return not is_grey(read_vi(path))


def shift(ir: Array, vi: Array) -> tuple[float, float] | None:
    """By how much an infrared image has to move to lie on the visible one.

    Edges agree in place, not in sign (warm may be dark), so what is correlated is their direction
    with the angle doubled, and the whole and two overlapping parts have to agree: of 575
    pairs 3 showed more than `MAX_SHIFT`; cut to be 5 % of their width apart, three of four.

    Args:
        ir: (H, W), in [0, 1].
        vi: luma, (H, W), in [0, 1].

    Returns:
        Shift to the right and downwards as shares of the width, or None where nothing is sure.
    """
    height, width = ir.shape
    size = (WIDTH, round(height * WIDTH / width))
    if min(height, width, *size) < LEAST_SIDE or max(size) > 4 * WIDTH:
        return None
    small = [np.asarray(Image.fromarray(i).resize(size, Image.Resampling.BOX)) for i in (vi, ir)]
    third = size[1] // 3
    parts = [slice(None), slice(0, 2 * third), slice(third, None)]
    found = []
    for part in parts:
        edges = [_edges(image[part]) for image in small]
        if not all(np.any(e) for e in edges):
            return None
        found.append(phase_cross_correlation(*edges, normalization=None)[0] / WIDTH)
    if max(np.hypot(*(other - found[0])) for other in found[1:]) > AGREEMENT:
        return None
    return float(found[0][1]), float(found[0][0])


def _edges(image: Array) -> Array:
    """Complex gradient with its angle doubled: an edge is the same whichever side is brighter."""
    smooth = gaussian(image, 1)
    gradient = sobel_v(smooth) + 1j * sobel_h(smooth)
    strength = np.abs(gradient)
    return (
        gradient**2
        / np.maximum(strength, 1e-6 + 0.2 * strength.mean())
        * window("hann", image.shape)
    )


def compare_with_list(
    pairs: Iterable[Pair], dataset: str, *, part: str | None = None, splits: Path | str = SPLITS
) -> list[Issue]:
    """Which pairs differ from the committed list: other pixels, damaged, not there, not listed.

    Args:
        pairs: what is there.
        dataset: a key of `fusionlib.datasets.DATASETS`.
        part: look only for missing pairs of this part; None for all.
        splits: folder of the lists.

    Raises:
        DatasetError: the list is damaged.
    """
    rows, issues, seen = read_list(dataset, splits), [], set()
    for pair in pairs:
        seen.add(pair.name)
        if (row := rows.get(pair.name)) is None:
            issues.append(Issue(dataset, pair.name, "unlisted", f"not in {dataset}.csv"))
            continue
        sides = (("ir", row.sha256_ir, pair.ir), ("vi", row.sha256_vi, pair.vi))
        try:
            other = [s for s, sha, path in sides if sha and pixel_sha256(path) != sha]
        except ImageError as error:
            issues.append(Issue(dataset, pair.name, "damaged", str(error)))
            continue
        if other:
            detail = f"other pixels than when {dataset}.csv was drawn: {', '.join(other)}"
            issues.append(Issue(dataset, pair.name, "changed", detail))
    gone = sorted(n for n, row in rows.items() if part in (None, row.split) and n not in seen)
    return issues + [Issue(dataset, name, "missing", "listed, but not here") for name in gone]


def summary(issues: Sequence[Issue]) -> str:
    """One line: how many of what, and the names of the first ten."""
    names: dict[str, list[str]] = {}
    for issue in issues:
        names.setdefault(issue.status, []).append(issue.name or issue.detail)
    return "; ".join(f"{len(of)} {status}: {first_names(of)}" for status, of in names.items())


def write_issues(path: Path | str, issues: Sequence[Issue]) -> Path:
    """Write issues as CSV; without any, the heading alone says that there are none."""
    text, path = io.StringIO(), Path(path)
    csv.writer(text, lineterminator="\n").writerows([Issue._fields, *issues])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode(errors="replace"))
    return path
