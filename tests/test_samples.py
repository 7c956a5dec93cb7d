import os
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image
from scipy.fft import fft2, ifft2
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_gradient_magnitude

from fusionlib import samples
from fusionlib.errors import DatasetError

ALL = samples.TEST_SCENES + samples.TRAIN_SCENES
HIDDEN = "hidden_person"


@pytest.fixture(scope="module")
def rendered():
    return {name: samples.render(name) for name in ALL}


@pytest.fixture
def written(tmp_path, monkeypatch, rendered):
    monkeypatch.setattr(samples, "render", rendered.__getitem__)  # rendering is tested above
    return samples.write_samples(tmp_path / "data")


def grey(sample):
    return sample.vi.astype(float) @ [0.299, 0.587, 0.114]


def ring(mask, gap=3, width=10):
    return binary_dilation(mask, iterations=gap + width) & ~binary_dilation(mask, iterations=gap)


def contrast(image, mask):
    """Mean inside the mask minus mean in a ring around it, grey levels."""
    return image[mask].mean() - image[ring(mask)].mean()


def shift_between(a, b):
    """Displacement of `b` against `a` in pixels, from phase correlation of edge strength."""
    window = np.hanning(a.shape[0])[:, None] * np.hanning(a.shape[1])
    a, b = (fft2(window * np.log1p(gaussian_gradient_magnitude(v, 1.0))) for v in (a, b))
    cross = a.conj() * b
    surface = ifft2(cross / np.maximum(np.abs(cross), 1e-9)).real
    peak = np.array(np.unravel_index(surface.argmax(), surface.shape))
    return np.where(peak > np.array(surface.shape) // 2, peak - surface.shape, peak)


def test_names_are_unique_and_as_many_as_promised():
    assert len(samples.TEST_SCENES) == len(samples.TRAIN_SCENES) == 8
    assert len(set(ALL)) == 16
    assert list(samples.TRAIN_SCENES) == [f"train_{i:02d}" for i in range(1, 9)]


@pytest.mark.parametrize("name", ALL)
def test_shapes_types_and_sizes(rendered, name):
    sample = rendered[name]
    shape = sample.ir.shape
    assert all(256 <= side <= 640 for side in shape)
    assert sample.vi.shape == (*shape, 3)
    assert sample.people.shape == sample.lamps.shape == shape
    assert sample.ir.dtype == sample.vi.dtype == np.uint8
    assert sample.people.dtype == sample.lamps.dtype == bool
    assert sample.name == name


def test_sizes_differ_and_one_is_odd(rendered):
    sizes = {rendered[name].ir.shape for name in samples.TEST_SCENES}
    assert len(sizes) == 8
    assert any(height % 2 and width % 2 for height, width in sizes)


@pytest.mark.parametrize("name", ALL)
def test_pictures_use_their_range_and_are_in_colour(rendered, name):
    sample = rendered[name]
    assert np.ptp(np.percentile(sample.ir, [1, 99])) > 60
    assert np.ptp(np.percentile(grey(sample), [1, 99])) > 60
    assert np.ptp(sample.vi.astype(int), axis=-1).mean() > 2


@pytest.mark.parametrize("name", ALL)
def test_people_are_warmer_than_their_surroundings(rendered, name):
    sample = rendered[name]
    assert sample.people.sum() > 300
    assert contrast(sample.ir.astype(float), sample.people) > 25


@pytest.mark.parametrize("name", ["night_street", "headlight_glare", "night_crossing", "dusk_camp"])
def test_lamps_are_bright_in_the_visible_image(rendered, name):
    sample = rendered[name]
    assert sample.lamps.sum() > 100
    assert grey(sample)[sample.lamps].mean() > 220
    assert contrast(grey(sample), sample.lamps) > 40


def test_hidden_person_shows_only_in_the_infrared(rendered):
    sample = rendered[HIDDEN]
    warm = contrast(sample.ir.astype(float), sample.people)
    assert warm > 60
    assert abs(contrast(grey(sample), sample.people)) < 12
    assert warm > 8 * abs(contrast(grey(sample), sample.people))


def test_smoke_hides_in_the_visible_what_the_infrared_shows(rendered):
    sample = rendered["smoke_road"]
    edge = binary_dilation(sample.people) & ~binary_erosion(sample.people)
    middle = np.zeros_like(edge)
    middle[:, sample.ir.shape[1] // 4 : sample.ir.shape[1] * 5 // 8] = True
    edge &= middle
    visible, infrared = (gaussian_gradient_magnitude(v.astype(float), 1.0)[edge].mean()
                         for v in (grey(sample), sample.ir))  # fmt: skip
    assert infrared > 4 * visible


def test_over_exposed_scene_is_clipped_where_the_infrared_is_not(rendered):
    sample = rendered["over_exposure"]
    assert (grey(sample) > 245).mean() > 0.10
    assert (sample.ir > 245).mean() < 0.01


@pytest.mark.parametrize("name", ALL)
def test_both_pictures_are_registered(rendered, name):
    sample = rendered[name]
    assert np.abs(shift_between(grey(sample), sample.ir.astype(float))).max() <= 1


def test_registration_check_notices_a_shift(rendered):
    sample = rendered["day_street"]
    moved = np.roll(sample.ir, (3, -5), (0, 1)).astype(float)
    assert shift_between(grey(sample), moved).tolist() == [3, -5]


@pytest.mark.parametrize("name", ALL)
def test_people_mask_follows_the_infrared_edges(rendered, name):
    sample = rendered[name]
    edges = gaussian_gradient_magnitude(sample.ir.astype(float), 1.0)
    border = binary_dilation(sample.people) & ~binary_erosion(sample.people)
    assert edges[border].mean() > 2.5 * edges[ring(sample.people)].mean()


def test_no_two_scenes_share_a_picture(rendered):
    assert len({sample.ir.tobytes() for sample in rendered.values()}) == 16
    assert len({sample.vi.tobytes() for sample in rendered.values()}) == 16
    for train in samples.TRAIN_SCENES:  # nor a crop or a brighter copy of one: compare thumbnails
        for test in samples.TEST_SCENES:
            a, b = (np.asarray(Image.fromarray(rendered[n].vi).convert("L").resize((64, 64)), float)
                    for n in (train, test))  # fmt: skip
            assert np.corrcoef(a.ravel(), b.ravel())[0, 1] < 0.97, (train, test)


def test_same_bytes_in_every_process():
    code = (
        "from hashlib import sha256; from fusionlib.samples import render\n"
        "for s in map(render, ('dusk_camp', 'train_05')):\n"
        "    for a in (s.ir, s.vi, s.people): print(sha256(a.tobytes()).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True,
                       env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads}).stdout
        for seed, threads in (("1", "1"), ("2", "2"))
    ]  # fmt: skip
    assert runs[0] == runs[1]
    assert len(set(runs[0].split())) == 6


def test_writes_every_pair_losslessly(rendered, written):
    for kind in ("ir", "vi"):
        folder = written / "Synthetic" / kind
        assert sorted(p.name for p in folder.iterdir()) == sorted(f"{n}.png" for n in ALL)
        for name in ALL:
            with Image.open(folder / f"{name}.png") as image:
                assert np.array_equal(np.asarray(image), getattr(rendered[name], kind))


def test_second_write_touches_nothing_but_what_is_damaged(written):
    files = sorted((written / "Synthetic").rglob("*.png"))
    damaged, missing = files[3], files[20]
    before = {p: (p.stat().st_mtime_ns, sha256(p.read_bytes()).digest()) for p in files}
    damaged.write_bytes(damaged.read_bytes()[:-40])
    missing.unlink()
    assert samples.write_samples(written) == written
    for path, (mtime, digest) in before.items():
        assert sha256(path.read_bytes()).digest() == digest
        if path not in (damaged, missing):
            assert path.stat().st_mtime_ns == mtime
    assert sorted((written / "Synthetic").rglob("*")) == sorted(
        [written / "Synthetic" / kind for kind in ("ir", "vi")] + files
    )


def test_what_was_drawn_is_not_drawn_again(written, monkeypatch):
    monkeypatch.setattr(samples, "render", lambda name: pytest.fail(f"{name} was drawn again"))
    assert samples.write_samples(written) == written
    monkeypatch.setattr(samples, "_code_digest", lambda: "other code")
    with pytest.raises(pytest.fail.Exception, match="drawn again"):
        samples.write_samples(written)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(DatasetError) as error:
        samples.render("day_stret")
    assert "day_stret" in str(error.value)
    assert all(name in str(error.value) for name in ALL)
