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
    places = zip(listed["dataset"], listed["name"], strict=True)
    listed["target"] = [folder / dataset / f"{name}.png" for dataset, name in places]
    lacking = listed[[not _fits(row.target, row.sha256) for row in listed.itertuples()]]
    for (repository, commit, file), rows in lacking.groupby(["repository", "commit", "file"]):
        url = f"{RAW}/{repository}/{commit}/{quote(file)}"
        wanted = dict(zip(rows["sha256"], rows["target"], strict=True))
        by_hand = f"By hand: get it, and save as {', '.join(map(str, wanted.values()))}."
        if offline:
            raise DownloadError(f"--offline forbids fetching {url}. {by_hand}")
        try:
            _lay_out(url, wanted)
        except (OSError, ValueError, FusionError) as error:
            raise DownloadError(f"{url} failed: {error}. Run again. {by_hand}") from error
    return len(listed)


def _lay_out(url: str, wanted: dict[str, Path]) -> None:
    """Fetch an image, or a zip of images, and save those whose pixels are asked for."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        get = pooch.HTTPDownloader(timeout=TIMEOUT)
        pooch.get_logger().setLevel("WARNING")
        suffix = Path(url).suffix.lower()
        got = Path(pooch.retrieve(url, None, f"got{suffix}", folder, downloader=get))
        if suffix == ".zip":
            extract(got, folder / "zip")
            found = [path for path in (folder / "zip").rglob("*") if path.is_file()]
        else:
            found = [got]
        for path in found:
            try:
                y = read_luma8(path)
            except FusionError:
                continue  # a web page, or another file of the zip
            if target := wanted.get(digest(y)):
                save_image(target, y)
    if lost := [str(path) for sha256, path in wanted.items() if not _fits(path, sha256)]:
        raise ValueError(f"it does not hold what was published for {', '.join(lost)}")


def _fits(path: Path, sha256: str) -> bool:
    try:
        return digest(read_luma8(path)) == sha256
    except FusionError:
        return False


def digest(y: np.ndarray) -> str:
    """sha256 of size and grey levels, whatever format held them."""
    return hashlib.sha256(f"{y.shape}".encode() + y.tobytes()).hexdigest()
