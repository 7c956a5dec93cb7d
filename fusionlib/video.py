"""Fuse two videos frame by frame; needs PyAV: ``pip install 'fusionlib[video]'``."""

import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from fusionlib.checks import Issue, read_pairs, require_apart
from fusionlib.errors import FusionError, ImageError, PairError
from fusionlib.inference import Fuser, in_colour
from fusionlib.pairing import Pair

H264 = ("libx264", {"crf": "14"})  # looks like the original; FFV1 in Matroska is lossless
FFV1 = ("ffv1", {"level": "3", "slicecrc": "1"})
CODECS = {".mkv": FFV1, ".mp4": H264, ".mov": H264, ".m4v": H264}
EXACT = ("gray", "gray16le", "gray16be")  # pixel formats; others are turned into 8-bit RGB
BT709, LIMITED = 1, 1  # how FFmpeg numbers colour spaces and ranges


def fuse_videos(
    fuser: Fuser, ir: Path, vi: Path, out: Path, *, grey: bool = False, **reading: object
) -> list[Issue]:
    """Fuse frame by frame, each as an image file of the same levels would be; audio is left out.

    Args:
        fuser: from `fusionlib.inference.load_fuser`.
        ir: infrared video.
        vi: visible video with as many frames at the same constant rate.
        out: ``.mkv`` (FFV1, lossless), ``.mp4``, ``.mov`` or ``.m4v`` (H.264); appears when done.
        grey: write the fused luma without colour.
        reading: options of `fusionlib.datasets.load_pair`, the same for all frames.

    Returns:
        What is doubtful about the frames, see `fusionlib.checks.read_pairs`.

    Raises:
        PairError: the frames of the two do not match.
        ImageError: variable frame rate, or a frame that cannot be decoded.
        FusionError: PyAV is missing, or ``out`` is a source or cannot be written.
    """
    if out.suffix.lower() not in CODECS:
        raise FusionError(f"{out}: cannot write this as a video; one of {', '.join(CODECS)}")
    require_apart([out], [ir, vi])
    (ir_ticks, *_), (ticks, _, rate) = _matching(ir, vi)
    issues: list[Issue] = []
    temporary = out.with_name(f".{secrets.token_hex(8)}{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory() as folder, _open(temporary, "w") as file:
            codec, settings = CODECS[out.suffix.lower()]
            stream = file.add_stream(codec, rate=rate, options=settings)
            pairs = _as_pairs(Path(folder), (("ir", ir, ir_ticks), ("vi", vi, ticks)))
            found = read_pairs(pairs, issues, **reading)
            for _, *pair in tqdm(found, desc="fusing", unit="frame", total=len(ticks)):
                file.mux(_encode(stream, in_colour(fuser, *pair, grey)))
            file.mux(stream.encode())
        os.replace(temporary, out)
    except (ImageError, PairError) as error:  # frames are named by video and number
        raise type(error)(str(error).replace(f"{folder}{os.sep}", "")) from error
    except OSError as error:  # disk full, no such codec
        raise FusionError(f"{out}: cannot be written ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return issues


def _timing(path: Path) -> tuple[list[int], float, Fraction]:
    """When the frames come, in ticks; mean seconds between two; nominal rate. Decodes nothing."""
    with _open(path) as file:
        if not file.streams.video:
            raise ImageError(f"{path}: holds no video stream")
        if file.streams.audio:
            warnings.warn(f"{path}: its audio is left out", stacklevel=3)
        stream = file.streams.video[0]
        packets = [p for p in file.demux(stream) if p.size and not p.is_discard]
        ticks = [p.dts if p.pts is None else p.pts for p in packets]
        tick, rate = float(stream.time_base), stream.average_rate
    if not ticks or None in ticks or not rate:
        raise ImageError(f"{path}: has no frames, or frames without a time")
    steps = np.diff(sorted(ticks)) if len(ticks) > 1 else np.array([1 / (tick * rate)])
    usual = float(np.median(steps))
    if (odd := np.flatnonzero(np.abs(steps - usual) > usual / 4 + 1)).size:  # 1: rounded to ticks
        late, others = 1000 * tick * steps[odd[0]], 1000 * tick * usual
        raise ImageError(
            f"{path}: variable frame rate: frame {odd[0] + 1} (from 0) comes {late:.0f} ms after "
            f"the one before, others {others:.0f} ms; make it constant, as ffmpeg -vf fps=30 does"
        )
    return sorted(ticks), tick * float(steps.mean()), rate


def _matching(ir: Path, vi: Path) -> tuple:
    """`_timing` of both; PairError unless they have as many frames at one rate."""
    paths, timings = (ir, vi), (_timing(ir), _timing(vi))
    counts, steps = zip(*((len(t), s) for t, s, _ in timings), strict=True)
    if counts[0] != counts[1]:
        longer, text = paths[np.argmax(counts)], "has no partner; cut both to the same frames"
        text = f"frame {min(counts)} (from 0) of {longer} {text}"
        raise PairError(f"{ir} has {counts[0]} frames and {vi} has {counts[1]}: {text}")
    drift, half = abs(steps[0] - steps[1]), max(steps) / 2
    if drift * counts[0] > half:
        text = f"{ir} has {1 / steps[0]:.3f} frames a second and {vi} {1 / steps[1]:.3f}: "
        raise PairError(f"{text}from frame {half / drift:.0f} on they lie over half a frame apart")
    return timings


def _frames(path: Path, ticks: list[int]) -> Iterator[np.ndarray]:
    """Levels of every frame, (H, W) or (H, W, 3), upright."""
    count, at = 0, None
    with _open(path, where=lambda: f", frame {ticks.index(at)}" if at in ticks else "") as file:
        stream = file.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}  # instead of mending it
        for packet in file.demux(stream):
            at = packet.dts if packet.pts is None else packet.pts
            for frame in packet.decode():
                kind = frame.format.name
                if frame.is_corrupt or (kind.startswith("gray") and kind not in EXACT):
                    why = "is damaged" if frame.is_corrupt else f"has levels {kind}, not gray16le"
                    raise ImageError(f"{path}: frame {count} {why}")
                levels = frame.to_ndarray(format=kind if kind in EXACT else "rgb24")
                yield np.rot90(levels, frame.rotation // 90)
                count += 1
    if count != len(ticks):
        raise ImageError(f"{path}: broken off before frame {count} of {len(ticks)}")


def _as_pairs(folder: Path, sides: tuple[tuple[str, Path, list[int]], ...]) -> Iterator[Pair]:
    """Frames as image files, which are gone again with the next."""
    both = zip(*(_frames(path, ticks) for _, path, ticks in sides), strict=True)
    for number, frames in enumerate(both):
        files = [folder / f"{side} {path.name} frame {number}.png" for side, path, _ in sides]
        for file, levels in zip(files, frames, strict=True):
            Image.fromarray(levels).save(file, compress_level=1)
        yield Pair("", f"frame {number}", *files)
        for file in files:
            file.unlink()


def _encode(stream, fused: np.ndarray) -> list:
    """Packets of one fused frame, (H, W) or (H, W, 3) in [0, 1]."""
    import av

    levels = np.rint(255 * np.dstack([fused] * 3 if fused.ndim == 2 else [fused])).astype(np.uint8)
    frame, context = av.VideoFrame.from_ndarray(levels, format="rgb24"), stream.codec_context
    lossless, odd = context.name == "ffv1", any(side % 2 for side in fused.shape[:2])
    if not context.is_open:  # players take 4:2:0 only, which odd sizes do not have
        context.pix_fmt = "bgr0" if lossless else "yuv444p" if odd else "yuv420p"
        context.height, context.width = fused.shape[:2]
        if not lossless:
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = LIMITED
    space = {} if lossless else {"dst_colorspace": BT709, "dst_color_range": LIMITED}
    return stream.encode(frame.reformat(format=context.pix_fmt, **space))


@contextmanager
def _open(path: Path, mode: str = "r", where=lambda: ""):
    """A container; what FFmpeg raises while it is read becomes an ImageError."""
    try:
        import av
    except ImportError as error:
        raise FusionError("videos need PyAV: pip install 'fusionlib[video]'") from error
    try:
        with av.open(str(path), mode) as file:
            yield file
    except av.FFmpegError as error:
        if mode == "w":
            raise OSError(str(error)) from error
        raise ImageError(f"{path}{where()}: damaged, or no video ({error})") from error
