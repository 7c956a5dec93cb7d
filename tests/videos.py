"""Small videos, written and read with PyAV."""

from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")


def random_frames(count=3, size=(32, 48)):
    """Infrared (N, H, W) and visible (N, H, W, 3) levels."""
    rng = np.random.default_rng(0)
    return (rng.integers(0, 256, (count, *size, *end), np.uint8) for end in ((), (3,)))


def write_video(path, frames, rate=25, codec="ffv1", pixels=None, times=None, audio=False):
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


def frames_of(path):
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
