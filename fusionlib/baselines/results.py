"""Fused images that others published: where each is, fetching and verifying them.

They belong to their authors. ``data/published_results.csv`` says for which pairs of the datasets
there are some, and identifies their pixels.
"""

import hashlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import numpy as np
import pandas as pd
import pooch

from fusionlib.download import extract
from fusionlib.errors import DownloadError, FusionError
from fusionlib.files import DATA, USER_DATA
from fusionlib.images import read_luma8, save_image

LIST = DATA / "published_results.csv"  # method, dataset, name, repository, commit, file, sha256
RAW = "https://raw.githubusercontent.com"
TIMEOUT = (10, 60)  # seconds to connect, and of silence
RELATED = {  # methods of the paper's related work; where their images come from
    "CDDFuse": "22 of 55 pairs of TNO and 4 of 20 of RoadScene, from a user of the official weights"
    " (EN, SD and SF of the whole folder equal the authors')",
    "RFN-Nest": "40 of 55 pairs of TNO, from a benchmark and from the authors",
    "FusionGAN": "35 of 55 pairs of TNO, from a benchmark",
    "DDcGAN": "10 of 55 pairs of TNO, from the authors",
}


def results_root() -> Path:
    """Folders of images made elsewhere: ``$FUSIONLIB_RESULTS`` if set, else ``data/results``."""
    root = os.environ.get("FUSIONLIB_RESULTS") or USER_DATA / "results"
    return Path(root).expanduser()


def fetch_results(method: str, *, offline: bool = False) -> int:
    """Fetch the published images of a method to ``<results>/<method>/<dataset>/<name>.png``.

    What is there and fits is not fetched again.

    Returns:
        Number of images in place.

    Raises:
        DownloadError: no images of this method are known; or some could not be fetched, or are not
            what was published.
    """
    if method not in RELATED:
        raise DownloadError(f"no published images are known; there are {', '.join(RELATED)}")
    listed = pd.read_csv(LIST, dtype=str).query("method == @method")
    folder = results_root() / method
    for (repository, commit, file), rows in listed.groupby(["repository", "commit", "file"]):
        targets = [folder / row.dataset / f"{row.name}.png" for row in rows.itertuples()]
        wanted = dict(zip(rows["sha256"], targets, strict=True))
        wanted = {sha256: path for sha256, path in wanted.items() if _digest_of(path) != sha256}
        if not wanted:
            continue
        url = f"{RAW}/{repository}/{commit}/{quote(file)}"
        by_hand = f"By hand: get it, and save as {', '.join(map(str, wanted.values()))}."
        if offline:
            raise DownloadError(f"--offline forbids fetching {url}. {by_hand}")
        try:
            _fetch(url, wanted)
        except (OSError, ValueError, FusionError) as error:
            raise DownloadError(f"{url} failed: {error}. Run again. {by_hand}") from error
    return len(listed)


def _fetch(url: str, wanted: dict[str, Path]) -> None:
    """Fetch an image, or a zip of images, and save those whose pixels are asked for."""
    with TemporaryDirectory() as name:
        folder, suffix = Path(name), Path(url).suffix.lower()
        get = pooch.HTTPDownloader(timeout=TIMEOUT)
        pooch.get_logger().setLevel("WARNING")
        got = Path(pooch.retrieve(url, None, f"got{suffix}", folder, downloader=get))
        for path in extract(got, folder / "zip").rglob("*") if suffix == ".zip" else [got]:
            if (sha256 := _digest_of(path)) in wanted:
                save_image(wanted.pop(sha256), read_luma8(path))
    if wanted:
        lost = ", ".join(map(str, wanted.values()))
        raise ValueError(f"it does not hold what was published for {lost}")


def _digest_of(path: Path) -> str | None:
    try:
        return digest(read_luma8(path))
    except FusionError:  # not there; or a web page, a folder, another file of the zip
        return None


def digest(y: np.ndarray) -> str:
    """sha256 of size and grey levels, whatever format held them."""
    return hashlib.sha256(f"{y.shape}".encode() + y.tobytes()).hexdigest()
