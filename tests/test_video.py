"""Videos: frames that match, and results equal to those of image files."""

import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from fusionlib import inference
from fusionlib.errors import FusionError, ImageError, PairError
from fusionlib.images import save_image
from fusionlib.pairing import Pair
from fusionlib.video import fuse_videos

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def fuser():
    return inference.load_fuser()


def scene(count=3, size=(32, 48), seed=0):
    """Infrared (N, H, W) and visible (N, H, W, 3) levels."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (count, *size, *end), np.uint8) for end in ((), (3,)))


def write(path, frames, rate=25, codec="ffv1", pixels=None, times=None, audio=False):
    """A lossless video, if not said otherwise."""
    kind = {2: "gray", 3: "rgb24"}[frames[0].ndim]
    kind = "gray16le" if frames[0].dtype == np.uint16 else kind
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels or {"rgb24": "bgr0"}.get(kind, kind)
        if audio:
            sound = file.add_stream("pcm_s16le", rate=8000)
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), "<i2"), "s16", "mono")
            silence.rate = 8000
            file.mux(sound.encode(silence))
        for number, levels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(levels, format=kind)
            frame.pts = times[number] if times else number
            frame.time_base = 1 / Fraction(rate)
            file.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        file.mux(stream.encode())
    return path


def read(path):
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


@pytest.mark.parametrize("bits", [8, 16])
def test_r75_frames_are_bit_equal_to_those_of_the_image_path(fuser, tmp_path, bits):
    ir, vi = scene()
    reading = {}
    if bits == 16:  # raw counts
        ir, reading = 7000 + 4 * ir.astype(np.uint16), {"ir_range": (7000, 8020)}
    write(tmp_path / "ir.mkv", ir)
    write(tmp_path / "vi.mkv", vi)
    out = tmp_path / "new" / "fused.mkv"
    fuse_videos(fuser, tmp_path / "ir.mkv", tmp_path / "vi.mkv", out, **reading)
    assert [path.name for path in out.parent.iterdir()] == ["fused.mkv"]
    for number, fused in enumerate(read(out)):
        for side, levels in (("ir", ir), ("vi", vi)):
            Image.fromarray(levels[number]).save(tmp_path / f"{side}.png")
        pair = Pair("", "a", tmp_path / "ir.png", tmp_path / "vi.png")
        expected = save_image(tmp_path / "f.png", inference.fuse_pair(fuser, pair, **reading))
        assert np.array_equal(fused, np.asarray(Image.open(expected))), number
    assert number == 2


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_h264_looks_like_the_image_and_keeps_the_rate(fuser, tmp_path, size):
    smooth = np.linspace(20, 220, size[0] * size[1]).reshape(size).astype(np.uint8)
    ir = [np.roll(smooth, 3 * n, 1) for n in range(3)]
    vi = [np.dstack([i, i[::-1], 255 - i]) for i in ir]
    write(tmp_path / "ir.mkv", ir, rate=Fraction(30000, 1001))
    write(tmp_path / "vi.mkv", vi, rate=Fraction(30000, 1001))
    for suffix in (".mkv", ".mp4"):
        fuse_videos(fuser, tmp_path / "ir.mkv", tmp_path / "vi.mkv", tmp_path / f"f{suffix}")
    exact, close = (read(tmp_path / f"f{suffix}") for suffix in (".mkv", ".mp4"))
    assert len(close) == 3 and close[0].shape == (*size, 3)
    assert np.abs(np.float32(exact) - close).mean() < 5
    with av.open(str(tmp_path / "f.mp4")) as file:
        assert file.streams.video[0].average_rate == Fraction(30000, 1001)


def test_r75_other_counts_and_rates_are_refused_with_the_frame(fuser, tmp_path):
    ir, vi = scene(30)
    write(tmp_path / "ir.mkv", ir)
    write(tmp_path / "short.mkv", vi[:28])
    write(tmp_path / "fast.mkv", vi, rate=26)
    out = tmp_path / "fused.mkv"
    with pytest.raises(PairError, match=r"30 frames .* has 28: frame 28 \(from 0\) of .*ir\.mkv"):
        fuse_videos(fuser, tmp_path / "ir.mkv", tmp_path / "short.mkv", out)
    with pytest.raises(PairError, match=r"25\.000 frames .*fast\.mkv 26\.\d+: from frame 1\d on"):
        fuse_videos(fuser, tmp_path / "ir.mkv", tmp_path / "fast.mkv", out)
    assert not out.exists()


def test_r75_a_variable_rate_is_refused_with_the_frame(fuser, tmp_path):
    ir, vi = scene(6)
    write(tmp_path / "ir.mkv", ir)
    write(tmp_path / "vi.mkv", vi, times=[0, 1, 2, 4, 5, 6])  # the camera left one out
    with pytest.raises(ImageError, match=r"vi\.mkv: variable .* frame 3 .* 80 ms .* 40 ms"):
        fuse_videos(fuser, tmp_path / "ir.mkv", tmp_path / "vi.mkv", tmp_path / "fused.mkv")


def test_r75_a_broken_stream_is_refused_with_the_frame_and_nothing_stays(fuser, tmp_path):
    ir, vi = scene(6, (96, 128))
    write(tmp_path / "ir.mkv", ir)
    path = write(tmp_path / "vi.mkv", vi, codec="libx264", pixels="yuv420p")
    with av.open(str(path)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    data = path.read_bytes()
    place = data.index(packets[3]) + len(packets[3]) // 2
    path.write_bytes(data[:place] + b"\0" * 200 + data[place + 200 :])
    before = sorted(tmp_path.iterdir())
    assert len(packets) == 6
    with pytest.raises(ImageError, match=r"vi\.mkv, frame 3: damaged"):
        fuse_videos(fuser, tmp_path / "ir.mkv", path, tmp_path / "fused.mkv")
    path.write_bytes(data[:place])
    with pytest.raises((ImageError, PairError), match=r"vi\.mkv"):
        fuse_videos(fuser, tmp_path / "ir.mkv", path, tmp_path / "fused.mkv")
    path.write_text("no video")
    with pytest.raises(ImageError, match=r"vi\.mkv: damaged, or no video"):
        fuse_videos(fuser, tmp_path / "ir.mkv", path, tmp_path / "fused.mkv")
    assert sorted(tmp_path.iterdir()) == before


def test_a_frame_that_is_refused_is_named_by_video_and_number(fuser, tmp_path):
    _, vi = scene()
    write(tmp_path / "ir.mkv", vi)
    write(tmp_path / "vi.mkv", vi)
    with pytest.raises(ImageError, match=r"^ir ir\.mkv frame 0\.png: an infrared image with three"):
        fuse_videos(fuser, tmp_path / "ir.mkv", tmp_path / "vi.mkv", tmp_path / "fused.mkv")


def test_audio_is_left_out_and_that_is_said(fuser, tmp_path):
    ir, vi = scene()
    write(tmp_path / "ir.mkv", ir)
    write(tmp_path / "vi.mkv", vi, audio=True)
    with pytest.warns(UserWarning, match=r"vi\.mkv: its audio is left out"):
        fuse_videos(fuser, tmp_path / "ir.mkv", tmp_path / "vi.mkv", tmp_path / "fused.mkv")
    with av.open(str(tmp_path / "fused.mkv")) as file:
        assert not file.streams.audio


def test_a_video_that_is_turned_is_fused_upright(fuser, tmp_path):
    ir, vi = scene(size=(48, 32))
    write(tmp_path / "ir.mkv", ir)
    lying = [np.rot90(levels).copy() for levels in vi]  # as an upright phone does
    path = write(tmp_path / "vi.mov", lying, codec="png", pixels="rgb24")
    data, clockwise = path.read_bytes(), (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    place = data.index(b"tkhd") + 4 + 40
    matrix = np.array(clockwise, ">i4").tobytes()
    path.write_bytes(data[:place] + matrix + data[place + len(matrix) :])
    fuse_videos(fuser, tmp_path / "ir.mkv", path, tmp_path / "fused.mkv")
    write(tmp_path / "vi.mkv", vi)
    fuse_videos(fuser, tmp_path / "ir.mkv", tmp_path / "vi.mkv", tmp_path / "upright.mkv")
    assert np.array_equal(read(tmp_path / "fused.mkv"), read(tmp_path / "upright.mkv"))


def test_r75_without_pyav_the_error_says_what_to_install(fuser, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FusionError, match=r"pip install 'fusionlib\[video\]'"):
        fuse_videos(fuser, tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "c.mp4")


def test_r65_a_video_never_replaces_its_source(fuser, tmp_path):
    path = write(tmp_path / "ir.mkv", next(iter(scene())))
    before = path.read_bytes()
    for target in (path, tmp_path / "link.mkv"):
        if target != path:
            target.symlink_to(path)
        with pytest.raises(FusionError, match="source"):
            fuse_videos(fuser, path, path, target)
    assert path.read_bytes() == before
