import os

import numpy as np
import pytest
from image_files import COLOURS, RAMP
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin
from scenes import read_scene
from skimage.color import rgb2ycbcr

from fusionlib.errors import ImageError
from fusionlib.images import aspect, check_target, luma, luma8, replace_luma, save_image


def test_luma_is_rounded_half_up_from_the_exact_value():
    rgb = np.stack(np.mgrid[0:256:3, 0:256:3, 0:256], axis=-1).reshape(1, -1, 3)
    rgb = np.concatenate([rgb, np.arange(256).repeat(3).reshape(1, -1, 3)], axis=1)  # all greys
    thousandths = rgb @ [299, 587, 114]
    assert (thousandths % 1000 == 500).sum() > 1000
    for dtype in (np.float32, np.float64):
        assert (luma8((rgb / 255).astype(dtype)) == (thousandths + 500) // 1000).all()
    exact = luma((rgb / 255).astype(np.float32))
    assert exact.dtype == np.float32 and np.abs(exact - thousandths / 255_000).max() < 1e-6


def test_replace_luma_sets_luma_and_keeps_chroma_where_no_channel_leaves_the_range():
    """Elsewhere Cb and Cr give way, by one factor, and no more than they must."""
    rng = np.random.default_rng(5)
    rgb, y = (rng.random(shape).astype(np.float32) for shape in ((60, 70, 3), (60, 70)))
    fused = replace_luma(rgb, y)
    assert fused.dtype == np.float32 and fused.min() >= 0 and fused.max() <= 1
    assert np.abs(luma(fused) - y).max() < 1e-5
    before, after = (rgb2ycbcr(x.astype(float))[:, :, 1:] - 128 for x in (rgb, fused))
    factor = (before * after).sum(axis=2) / (before**2).sum(axis=2)
    assert np.abs(after - factor[:, :, None] * before).max() < 1e-3
    shifted = rgb + (y - luma(rgb))[:, :, None]
    fits = (shifted >= 0).all(axis=2) & (shifted <= 1).all(axis=2)
    assert fits.any() and np.abs(factor[fits] - 1).max() < 1e-3
    edge = np.minimum(fused.min(axis=2), 1 - fused.max(axis=2))
    assert (edge[~fits] < 1e-6).all() and (factor[~fits] < 1).all()
    assert np.abs(replace_luma(rgb, luma(rgb)) - rgb).max() < 1e-6


def test_save_rounds_half_to_even_and_clips(tmp_path):
    values = {0.1: 26, 0.3: 76, 0.5: 128, 0.7: 178, 0.9: 230}  # 25.5, 76.5, 127.5, 178.5, 229.5
    values |= {-0.2: 0, 1.7: 255, 0: 0, 1: 255, 0.499 / 255: 0, 0.501 / 255: 1}
    for dtype in (np.float32, np.float64):
        path = save_image(tmp_path / "a.png", np.array([list(values)], dtype))
        assert np.asarray(Image.open(path)).tolist() == [list(values.values())]


@pytest.mark.parametrize("name", ["a.PNG", "a.bmp", "a.tif", "a.webp", "new/folders/a.tiff"])
def test_save_returns_the_path_of_the_levels(tmp_path, name):
    for image in (RAMP, COLOURS):
        path = save_image(str(tmp_path / name), image)
        assert path == tmp_path / name
        stored = Image.open(path).convert("L" if image.ndim == 2 else "RGB")  # WebP has no grey
        assert (np.asarray(stored) == image).all()
        assert os.listdir(path.parent) == [path.name]
        bytes_before = path.read_bytes()
        assert save_image(path, image).read_bytes() == bytes_before  # no time stamp


@pytest.mark.parametrize(
    "name, image, word",
    [
        ("a.png", np.zeros(4), "shape"),
        ("a.png", np.zeros((4, 4, 4)), "shape"),
        ("a.png", np.zeros((0, 4)), "shape"),
        ("a.png", np.array([[0.5, np.nan, np.inf]]), "2 values"),
        ("a.png", np.array([[3, 200]]), "int64"),
        ("a.gif", RAMP, "which holds 256 colours"),
        ("a.webp", np.zeros((4, 20_000)), "20000×4 .*use .png"),
        ("a.jpg", np.zeros((70_000, 1)), "1×70000 .*use .png"),
    ],
)
def test_save_refuses_and_leaves_what_is_there(tmp_path, name, image, word):
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(ImageError, match=f"{name}: .*{word}"):
        save_image(tmp_path / name, image)
    assert os.listdir(tmp_path) == [name] and (tmp_path / name).read_bytes() == b"old"
    with pytest.raises(ImageError, match=f"{name}: cannot be made"):
        save_image(tmp_path / name / "b.png", RAMP)


def test_r66_jpeg_keeps_detail_and_full_colour(tmp_path):
    ir, vi = read_scene("dusk_camp")
    with Image.open(save_image(tmp_path / "a.jpg", vi)) as stored:
        assert stored.format == "JPEG" and JpegImagePlugin.get_sampling(stored) == 0  # 4:4:4
        error = np.asarray(stored, int) - vi
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 36
    with Image.open(save_image(tmp_path / "a.jfif", ir)) as stored:
        assert stored.format == "JPEG" and stored.mode == "L"


@pytest.mark.parametrize("name", ["a.gif", "a.xyz", "a"])
def test_r66_targets_that_cannot_hold_the_result_are_refused_before_work(tmp_path, name):
    assert check_target(tmp_path / "a.PNG") == tmp_path / "a.PNG"
    with pytest.raises(ImageError, match=f"{name}: cannot write .*one of .png, .jpg"):
        check_target(tmp_path / name)


PLACE = {1: "N", 2: (47.0, 1.0, 2.0), 3: "E", 4: (8.0, 0.0, 30.0)}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def photo(path):
    """A photo that lies on its side, with place, exposure, a thumbnail and a colour profile."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(ExifTags.IFD.Exif)[0x829A] = 0.01
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(PLACE)
    exif.get_ifd(ExifTags.IFD.IFD1).update({0x0103: 6, 0x0201: 999, 0x0202: 99})
    Image.fromarray(COLOURS).save(path, exif=exif.tobytes(), icc_profile=SRGB)
    return path


@pytest.mark.parametrize("like", ["vi.jpg", "vi.png", "vi.tif"])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp", "a.bmp"])
def test_place_camera_and_colour_profile_are_carried_over(tmp_path, name, like):
    path = save_image(tmp_path / name, COLOURS, like=photo(tmp_path / like))
    with Image.open(path) as stored:
        assert stored.size == COLOURS.shape[1::-1]
        exif = stored.getexif()
        assert 0x0112 not in exif and not exif.get_ifd(ExifTags.IFD.IFD1)
        if name != "a.bmp":
            assert exif[0x010F] == "Maker" and stored.info["icc_profile"] == SRGB
            assert exif.get_ifd(ExifTags.IFD.Exif)[0x829A] == 0.01
            assert exif.get_ifd(ExifTags.IFD.GPSInfo) == PLACE
        pixels = np.asarray(stored.convert("RGB"), int)
    assert name == "a.jpg" or (pixels == COLOURS).all()
    with Image.open(save_image(tmp_path / name, RAMP, like=tmp_path / like)) as grey:
        assert "icc_profile" not in grey.info  # that of colours


@pytest.mark.parametrize(
    "ir, vi, says",
    [
        ((64, 64), (96, 128), "+33%"),
        ((512, 640), (1080, 1920), "+42%"),
        ((100, 100), (100, 102), ""),
    ],
)
def test_other_proportions_are_described(ir, vi, says):
    assert bool(aspect(ir, vi)) == bool(says) and says in aspect(ir, vi)
