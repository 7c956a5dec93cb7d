"""Images that others published: fetched, verified, laid out. No internet."""

import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_published import served

from fusionlib.__main__ import main
from fusionlib.baselines import results
from fusionlib.images import save_image
from fusionlib.splits import read_split

LEVELS = {name: np.full((4, 6), 40 * i, np.uint8) for i, name in enumerate(("01", "02", "03"))}
FILES = {"01": "out/a b.bmp", "02": "out/all.zip", "03": "out/all.zip"}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A list of three images, one alone and two in a zip, and a server in the place of GitHub."""
    folder = tmp_path / "served" / "owner" / "repository" / "0123"
    save_image(folder / "out" / "a b.bmp", LEVELS["01"])
    with zipfile.ZipFile(folder / "out" / "all.zip", "w") as archive:
        for name in ("02", "03"):
            Image.fromarray(np.dstack([LEVELS[name]] * 3)).save(tmp_path / "rgb.png")
            archive.write(tmp_path / "rgb.png", f"results/{name}_fused.png")
        archive.writestr("results/readme.txt", "text")
    rows = [
        ("DDcGAN", "TNO", name, "owner/repository", "0123", FILES[name], results.digest(y))
        for name, y in LEVELS.items()
    ]
    columns = ["method", "dataset", "name", "repository", "commit", "file", "sha256"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "list.csv", index=False)
    monkeypatch.setattr(results, "LIST", tmp_path / "list.csv")
    monkeypatch.setenv("FUSIONLIB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with served(tmp_path / "served") as address:
        monkeypatch.setattr(results, "RAW", address)
        yield folder


def download(capsys, *arguments):
    status = main(["data", "download", "--results", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_r25_images_come_to_their_places_as_grey_png_or_offline_is_explained(
    published, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "results" / "DDcGAN" / "TNO"
    status, _, wrong = download(capsys, "DDcGAN", "--offline")
    assert status == 2 and "/owner/repository/0123/out/a%20b.bmp" in wrong
    assert str(folder / "01.png") in wrong
    status, said, _ = download(capsys, "DDcGAN")
    assert status == 0 and "3 images" in said and "they belong to their authors" in said
    for name, y in LEVELS.items():
        image = Image.open(folder / f"{name}.png")
        assert image.mode == "L" and np.array_equal(np.asarray(image), y)
    monkeypatch.setattr(results, "RAW", "http://127.0.0.1:9")  # no attempt
    assert download(capsys, "DDcGAN")[0] == download(capsys, "DDcGAN", "--offline")[0] == 0
    status, _, wrong = download(capsys, "SAGE")
    assert status == 2 and "CDDFuse, RFN-Nest, FusionGAN, DDcGAN" in wrong


def test_r24_r26_other_pixels_and_zips_that_lead_out_are_refused(published, tmp_path, capsys):
    folder = tmp_path / "results" / "DDcGAN" / "TNO"
    with zipfile.ZipFile(published / "out" / "all.zip", "a") as archive:
        archive.writestr("../../outside.png", b"")
    status, _, wrong = download(capsys, "DDcGAN")
    assert status == 2 and "all.zip failed" in wrong
    assert {path.name for path in folder.iterdir()} == {"01.png"}
    (folder / "01.png").unlink()
    save_image(published / "out" / "a b.bmp", LEVELS["01"] + 1)
    for _ in range(2):
        status, _, wrong = download(capsys, "DDcGAN")
        assert status == 2 and "does not hold what was published" in wrong
        (published / "out" / "a b.bmp").write_bytes(b"<html>quota</html>")
    assert not (folder / "01.png").exists()


def test_the_list_has_test_pairs_alone_each_once():
    listed = pd.read_csv(results.LIST, dtype=str)
    assert set(listed["method"]) == set(results.RELATED)
    assert not listed.duplicated(["method", "dataset", "name"]).any()
    assert not listed["sha256"].duplicated().any()
    for dataset, name in zip(listed["dataset"], listed["name"], strict=True):
        assert read_split(dataset)[name] == "test"
    counts = listed.groupby(["method", "dataset"]).size()
    for (method, dataset), count in counts.items():
        assert f"{count} of " in results.RELATED[method] and dataset in results.RELATED[method]
