"""Damaged files through every reader: each loads what is right or raises our error."""

import io
import json
import warnings
import zipfile
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import deep_png, tiff
from PIL import Image

from fusionlib.download import extract
from fusionlib.errors import FusionError
from fusionlib.images import image_size, luma8, read_ir, read_luma8, read_vi
from fusionlib.network import FusionNet, NetworkConfig
from fusionlib.splits import read_split
from fusionlib.weights import load_weights, save_weights

GREY = np.add.outer(np.arange(17) * 7, np.arange(24) * 5).astype(np.uint8)
COLOUR = np.random.default_rng(0).integers(0, 256, (*GREY.shape, 3), dtype=np.uint8)
DEEP_COLOUR = COLOUR.astype("u2") * 256 + COLOUR[::-1]
TURNED = Image.Exif()
TURNED[0x0112] = 6
IMAGES = {
    "grey.png": (GREY, {}),
    "colour.png": (COLOUR, {"exif": TURNED}),
    "deep.png": (GREY.astype("<u2") * 257, {}),
    "palette.png": (Image.fromarray(COLOUR).quantize(16), {}),
    "progressive.jpg": (COLOUR, {"progressive": True}),
    "deep.tif": (GREY.astype("<u2") * 257, {"exif": TURNED}),
    "float.tif": (GREY / np.float32(255), {}),
    "lzw.tif": (COLOUR, {"compression": "tiff_lzw"}),
    "deep_colour.png": (deep_png(DEEP_COLOUR), {}),
    "deep_colour.tif": (tiff(DEEP_COLOUR, photometric="rgb", compression="zlib"), {}),
    "double.tif": (tiff(GREY / 255), {}),
    "lossy.webp": (COLOUR, {}),
}
MEMBERS = {"ir/01.png": b"infrared" * 90, "vi/01.png": bytes(range(256)) * 3, "a.txt": b""}
EXTREMES = (0, 1, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def damage(draw, data):
    """Flip bits, overwrite what may be a length, repeat or drop bytes, cut."""
    data, place = bytearray(data), st.integers(0, len(data) - 1)
    for at, bit in draw(st.lists(st.tuples(place, st.integers(0, 7)), max_size=6), "flips"):
        data[at] ^= 1 << bit
    number = st.tuples(st.integers(0, min(len(data), 128) - 1), st.sampled_from(EXTREMES))
    for at, value in draw(st.lists(number, max_size=1), "number"):
        data[at : at + 4] = value.to_bytes(4, draw(st.sampled_from(("little", "big"))))
    part = st.tuples(place, st.integers(1, 40), st.sampled_from((0, 2, 9)))
    for at, size, times in draw(st.lists(part, max_size=1), "repeated, or dropped"):
        data[at : at + size] = data[at : at + size] * times
    return bytes(data[: draw(st.none() | st.integers(0, len(data)), "cut")])


def damaged(test):
    return settings(max_examples=60, deadline=None, database=None, derandomize=True)(
        given(data=st.data())(test)
    )


def read(reader, path, **options):
    """What a reader gives, or None after an error of ours that names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of the libraries
        try:
            return reader(path, **options)
        except FusionError as error:
            assert path.name in str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


@pytest.mark.parametrize("name", IMAGES)
@damaged
def test_r04_damaged_images_are_read_rightly_or_refused(folder, name, data):
    image, options = IMAGES[name]
    path = folder / name
    if isinstance(image, bytes):
        path.write_bytes(image)
    else:
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    whole, sound = read_vi(path), path.read_bytes()
    path.write_bytes(content := damage(data.draw, sound))
    ir, vi = (read(reader, path, max_pixels=100_000) for reader in (read_ir, read_vi))
    grey, size = read(read_luma8, path), read(image_size, path)
    if vi is None:
        assert ir is None
        return
    assert vi.dtype == np.float32 and vi.shape == (*size, 3)
    assert vi.min() >= 0 and vi.max() <= 1
    assert np.abs(luma8(vi).astype(int) - grey).max() <= 1
    if ir is not None:
        assert ir.dtype == np.float32 and ir.shape == size
        assert np.abs(ir * 255 - grey).max() <= 0.5 + 1e-3
    if name.endswith("png") or sound.startswith(content):  # checksums find all; a cut
        assert (vi.shape == whole.shape) and (vi == whole).all()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@damaged
def test_r26_r27_damaged_zips_are_unpacked_whole_or_not_at_all(tmp_path_factory, method, data):
    folder, file = tmp_path_factory.mktemp("zip"), io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as box:
        for name, content in MEMBERS.items():
            box.writestr(zipfile.ZipInfo(name), content, method)
    archive = folder / "a.zip"
    archive.write_bytes(damage(data.draw, file.getvalue()))
    out = read(lambda path: extract(path, folder / "out"), archive)
    assert {file.name for file in folder.iterdir()} == {"a.zip"} | ({"out"} if out else set())
    for path in (folder / "out").rglob("*") if out else ():
        assert path.resolve().is_relative_to(out.resolve())
        assert path.is_dir() or path.read_bytes() in MEMBERS.values()


@pytest.fixture(scope="module")
def weights(folder):
    encoder = SimpleNamespace(name="embedded", title="nothing", fingerprint="0")
    torch.manual_seed(0)
    net = FusionNet(NetworkConfig(embed=8, width=4, blocks=1, heads=1))
    path = save_weights(folder / "w.safetensors", net, encoder, {})
    return path, path.read_bytes()


@pytest.mark.parametrize("is_signed", [False, True])
@damaged
def test_r31_damaged_weights_are_refused(weights, is_signed, data):
    path, sound = weights
    path.write_bytes(content := damage(data.draw, sound))
    digest = sha256(content if is_signed else sound).hexdigest()  # made to fit what was damaged
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest}), encoding="utf-8")
    loaded = read(load_weights, path)
    assert loaded is None or (loaded.sha256 == digest and (is_signed or content == sound))


@damaged
def test_r19_damaged_lists_have_plain_names_or_are_refused(folder, data):
    listed = "name,split,sha256_ir,sha256_vi\n01,test,ab,cd\nStraße,train,,\n夜,val,,\n".encode()
    (folder / "TNO.csv").write_bytes(damage(data.draw, listed))
    path = folder / "TNO.csv"
    for name, part in (read(lambda path: read_split("TNO", path.parent), path) or {}).items():
        assert part in ("train", "val", "test", "")
        assert not set("/\\\n\r\0") & set(name) and name not in ("", ".", "..")
