"""Videos: frames that match, and results equal to those of image files."""

import functools
import re
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from videos import av, frames_of, random_frames, write_video

from fusionlib import inference
from fusionlib.errors import FusionError, ImageError, PairError
from fusionlib.images import save_image
from fusionlib.pairing import Pair
from fusionlib.video import fuse_videos

load_once = functools.cache(inference.load_fuser)


@pytest.fixture
def fuse(tmp_path):
    """Fuse two videos of the folder: names of infrared, visible and result → what is reported."""

    def fuse(ir="ir.mkv", vi="vi.mkv", out="fused.mkv", **reading):
        paths = (tmp_path / name for name in (ir, vi, out))
        return fuse_videos(load_once(), *paths, **reading)

    return fuse


def test_r75_frames_are_bit_equal_to_those_of_the_image_path(fuse, tmp_path):
    ir, vi = random_frames(2)
    ir, reading = 7000 + 4 * ir.astype(np.uint16), {"ir_range": (7000, 8020)}  # raw counts
    write_video(tmp_path / "ir.mkv", ir)
    write_video(tmp_path / "vi.mkv", vi)
    fuse(out="new/fused.mkv", **reading)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["fused.mkv"]
    fused = frames_of(tmp_path / "new" / "fused.mkv")
    assert len(fused) == 2
    for number, frame in enumerate(fused):
        for side, levels in (("ir", ir), ("vi", vi)):
            Image.fromarray(levels[number]).save(tmp_path / f"{side}.png")
        pair = Pair("", "a", tmp_path / "ir.png", tmp_path / "vi.png")
        expected = save_image(tmp_path / "f.png", inference.fuse_pair(load_once(), pair, **reading))
        assert np.array_equal(frame, np.asarray(Image.open(expected))), number


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_h264_looks_like_the_image_keeps_the_rate_and_says_that_audio_is_left_out(
    fuse, tmp_path, size
):
    smooth = np.linspace(20, 220, size[0] * size[1]).reshape(size).astype(np.uint8)
    ir = [np.roll(smooth, 3 * n, 1) for n in range(3)]
    vi = [np.dstack([i, i[::-1], 255 - i]) for i in ir]
    rate = Fraction(30000, 1001)
    write_video(tmp_path / "ir.mkv", ir, rate=rate)
    write_video(tmp_path / "vi.mkv", vi, rate=rate, audio=True)
    for suffix in (".mkv", ".mp4"):
        with pytest.warns(UserWarning, match=r"vi\.mkv: its audio is left out"):
            fuse(out=f"f{suffix}")
    exact, close = (frames_of(tmp_path / f"f{suffix}") for suffix in (".mkv", ".mp4"))
    assert len(close) == 3 and close[0].shape == (*size, 3)
    assert np.abs(np.float32(exact) - close).mean() < 5
    with av.open(str(tmp_path / "f.mp4")) as file:
        assert file.streams.video[0].average_rate == rate and not file.streams.audio


@pytest.mark.parametrize(
    ("frames", "options", "error", "match"),
    [
        (28, {}, PairError, r"30 frames .* has 28: frame 28 \(from 0\) of .*ir\.mkv"),
        (30, {"rate": 26}, PairError, r"25\.000 frames .*vi\.mkv 26\.\d+: from frame 1\d on"),
        # the camera left one out
        (30, {"times": [*range(3), *range(4, 31)]}, ImageError, r"frame 3 .* 80 ms .* 40 ms"),
    ],
)
def test_r75_other_counts_and_rates_are_refused_with_the_frame(
    fuse, tmp_path, frames, options, error, match
):
    ir, vi = random_frames(30)
    write_video(tmp_path / "ir.mkv", ir)
    write_video(tmp_path / "vi.mkv", vi[:frames], **options)
    with pytest.raises(error, match=match):
        fuse()
    assert not (tmp_path / "fused.mkv").exists()


def test_r75_a_broken_stream_is_refused_with_the_frame_and_nothing_stays(fuse, tmp_path):
    ir, vi = random_frames(6, (96, 128))
    write_video(tmp_path / "ir.mkv", ir)
    path = write_video(tmp_path / "vi.mkv", vi, codec="libx264", pixels="yuv420p")
    with av.open(str(path)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    assert len(packets) == 6
    data = path.read_bytes()
    place = data.index(packets[3]) + len(packets[3]) // 2
    before = sorted(tmp_path.iterdir())
    for broken, match in (
        (data[:place] + b"\0" * 200 + data[place + 200 :], r"vi\.mkv, frame 3: damaged"),
        (data[:place], r"vi\.mkv"),
        (b"no video", r"vi\.mkv: damaged, or no video"),
    ):
        path.write_bytes(broken)
        with pytest.raises((ImageError, PairError), match=match):
            fuse()
    assert sorted(tmp_path.iterdir()) == before


def test_a_video_that_is_turned_is_fused_upright(fuse, tmp_path):
    ir, vi = random_frames(size=(48, 32))
    write_video(tmp_path / "ir.mkv", ir)
    lying = [np.rot90(levels).copy() for levels in vi]  # as an upright phone does
    path = write_video(tmp_path / "turned.mov", lying, codec="png", pixels="rgb24")
    data, clockwise = path.read_bytes(), (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    place = data.index(b"tkhd") + 4 + 40
    matrix = np.array(clockwise, ">i4").tobytes()
    path.write_bytes(data[:place] + matrix + data[place + len(matrix) :])
    write_video(tmp_path / "vi.mkv", vi)
    fuse()
    fuse(vi="turned.mov", out="turned.mkv")
    assert np.array_equal(*(frames_of(tmp_path / f"{n}.mkv") for n in ("fused", "turned")))


def test_r65_r75_sources_as_targets_bad_frames_and_a_missing_pyav_are_refused(
    fuse, tmp_path, monkeypatch
):
    path = write_video(tmp_path / "ir.mkv", next(iter(random_frames())))
    before = path.read_bytes()
    (tmp_path / "link.mkv").symlink_to(path)
    for target in ("ir.mkv", "link.mkv"):
        with pytest.raises(FusionError, match="source"):
            fuse(vi="ir.mkv", out=target)
    assert path.read_bytes() == before
    write_video(tmp_path / "vi.mkv", list(random_frames())[1])
    with pytest.raises(ImageError, match=r"^ir vi\.mkv frame 0\.png: an infrared image with three"):
        fuse(ir="vi.mkv")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FusionError, match=re.escape("pip install 'fusionlib[video]'")):
        fuse()
