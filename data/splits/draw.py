"""Draw the lists of this folder anew: ``python data/splits/draw.py [DATASET …]``.

By the rule of `fusionlib.splits.draw_split`, over all pairs below ``--data-root``. What the list
that is here already says is kept: test pairs, validation pairs and scenes.

The scenes of LLVIP were found by looking: correlation of thumbnails (high-pass, 160×128, mean of
both images: above 0.5 within a framing, at most 0.2 between framings but for the crossing, whose
ground cars hide) and matched SIFT features, which also found day and night to be one framing.

- ``gate``: 01, one framing.
- ``street``: 19 and 20, two framings, and whatever of 26 shows some of their ground: the same
  framings by night (9 and 8 pairs), that of 19 by day (33), and two whose margins overlap them by
  23 to 30 % (6 and 3).
- ``crossing``: 5 pairs of 26, next to that street; none of the ground above.
- ``trees``: 9 pairs of 26; no ground in common with the others was found.
"""

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path

from fusionlib.datasets import REAL, Pair, default_root, find_pairs
from fusionlib.errors import DatasetError
from fusionlib.files import write_atomically
from fusionlib.images import pixel_sha256
from fusionlib.splits import SPLITS, Listed, draw_split, read_list


def write_list(pairs: Sequence[Pair], dataset: str, splits: Path | str = SPLITS) -> Path:
    """Draw a split over these pairs and write it with the hashes of their pixels.

    Raises:
        DatasetError: one image in both training and test, under two names.
        ImageError: an image cannot be read.
    """
    old = read_list(dataset, splits)
    drawn = draw_split([pair.name for pair in pairs], dataset, old)
    rows: dict[str, Listed] = {}
    owner: dict[str, tuple[str, str]] = {}
    for pair in pairs:
        part, scene = drawn[pair.name], old[pair.name].scene if pair.name in old else ""
        row = Listed(part, pixel_sha256(pair.ir), pixel_sha256(pair.vi), scene)
        for image in (row.sha256_ir, row.sha256_vi) if part else ():
            other, its = owner.setdefault(image, (pair.name, part))
            if (its == "test") != (part == "test"):
                raise DatasetError(
                    f"{dataset}: {other} ({its}) and {pair.name} ({part}) share an image"
                )
        rows[pair.name] = row
    columns = Listed._fields if any(row.scene for row in rows.values()) else Listed._fields[:-1]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("name", *columns))
    writer.writerows((name, *row[: len(columns)]) for name, row in rows.items())
    path = Path(splits) / f"{dataset}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the lists of data/splits anew.")
    parser.add_argument("datasets", nargs="*", default=REAL, metavar="DATASET", help="all if none")
    parser.add_argument("--data-root", type=Path, help="by default as for fusionlib")
    options = parser.parse_args()
    for name in options.datasets:
        print(write_list(find_pairs(default_root(options.data_root), name), name))
