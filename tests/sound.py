"""Files of every kind in order, made by code; `fuzz.py` spoils them."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from fusionlib.network import FusionNet, NetworkConfig
from fusionlib.weights import save_weights


@dataclass(frozen=True)
class Sound:
    """A file in order.

    Attributes:
        name: what it is called.
        data: its bytes.
        kind: which reader takes it; a key of `READERS`.
        checked: whether the format holds checksums, so that no change can pass.
    """

    name: str
    data: bytes
    kind: str
    checked: bool = False


def sound_files() -> list[Sound]:
    """All of them, the same ones in every process."""
    return [*_images(), *_archives(), *_weights(), *_lists()]


def _images() -> list[Sound]:
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(19) * 7, np.arange(23) * 5)
    grey = (ramp + rng.integers(0, 20, ramp.shape)).astype(np.uint8)
    colour = rng.integers(0, 256, (*grey.shape, 3), dtype=np.uint8)
    deep, real = (grey.astype(int) * 257).astype("<u2"), (grey / 255).astype(np.float32)
    exif = Image.Exif()
    exif[0x0112] = 6
    cases = [
        ("grey.png", grey, {}),
        ("colour.png", colour, {"exif": exif}),
        ("deep.png", deep, {}),
        ("bits.png", Image.fromarray(grey).convert("1"), {}),
        ("palette.png", Image.fromarray(colour).quantize(16), {}),
        ("alpha.png", Image.fromarray(grey).convert("LA"), {}),
        ("frames.png", grey, {"save_all": True, "append_images": [Image.fromarray(grey[::-1])]}),
        ("grey.jpg", grey, {}),
        ("colour.jpg", colour, {"exif": exif}),
        ("progressive.jpg", colour, {"progressive": True}),
        ("cmyk.jpg", Image.fromarray(colour).convert("CMYK"), {}),
        ("grey.bmp", grey, {}),
        ("colour.bmp", colour, {}),
        ("grey.tif", grey, {}),
        ("deep.tif", deep, {"exif": exif}),
        ("float.tif", real, {}),
        ("pages.tif", grey, {"save_all": True, "append_images": [Image.fromarray(grey[::-1])]}),
        ("lzw.tif", colour, {"compression": "tiff_lzw"}),
        ("deflate.tif", grey, {"compression": "tiff_adobe_deflate"}),
        ("packbits.tif", grey, {"compression": "packbits"}),
        ("jpeg.tif", colour, {"compression": "jpeg"}),
        ("lossy.webp", colour, {}),
        ("lossless.webp", colour, {"lossless": True}),
        ("palette.gif", Image.fromarray(colour).quantize(16), {}),
        ("frames.gif", grey, {"save_all": True, "append_images": [Image.fromarray(grey[::-1])]}),
    ]
    kinds = {"jpg": "JPEG", "tif": "TIFF"}
    found = []
    for name, image, options in cases:
        suffix = name.rpartition(".")[2]
        file = io.BytesIO()
        image = image if isinstance(image, Image.Image) else Image.fromarray(image)
        image.save(file, kinds.get(suffix, suffix.upper()), **options)
        found.append(Sound(name, file.getvalue(), "image", checked=suffix == "png"))
    return found


MEMBERS = {"TNO/ir/01.png": b"infrared" * 90, "TNO/vi/01.png": bytes(range(256)) * 3, "a.txt": b""}


def _archives() -> list[Sound]:
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as box:
            for name, data in MEMBERS.items():
                box.writestr(zipfile.ZipInfo(name), data, method)
        found.append(Sound(f"{method}.zip", file.getvalue(), "archive", checked=True))
    return found


def _weights() -> list[Sound]:
    class Encoder:
        name, title, fingerprint = "embedded", "nothing", "0"

    torch.manual_seed(0)
    net = FusionNet(NetworkConfig(embed=8, width=4, blocks=1, heads=1))
    with TemporaryDirectory() as folder:
        path = save_weights(Path(folder, "w.safetensors"), net, Encoder(), {"steps": 1})
        data, described = path.read_bytes(), path.with_suffix(".json").read_bytes()
    return [
        Sound("w.safetensors", data, "weights", checked=True),
        Sound("w.safetensors", data, "sealed"),  # the checksum is made to fit what was spoiled
        Sound("w.json", described, "record"),
    ]


def _lists() -> list[Sound]:
    split = "name,split,sha256_ir,sha256_vi\n01,test,ab,cd\nStraße,train,,\n夜,val,,\n"
    return [Sound("TNO.csv", split.encode(), "split")]
