"""Seconds per megapixel of each metric, beside a plain transcription of its definition.

    python benchmarks/metrics.py                  # Markdown to the terminal, CSV beside this file
    python benchmarks/metrics.py --sizes 0.1 1 5

One thread. ``once``: one fused image, nothing known of its sources. ``next``: a further fused image
of the same sources, as in a comparison of many methods. ``plain``: whole planes, scipy's filters,
nothing shared. Ratios are of medians over interleaved repeats of one run; absolute times hold for
the machine they were taken on, and only while nothing else ran there.
"""

import argparse
import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before numpy is imported

import statistics
import time
import tracemalloc

import numpy as np
from results import write
from scipy import ndimage

from fusionlib.metrics import METRICS, PAPER, Sources, measure


def images(megapixels: float) -> list[np.ndarray]:
    """Three 8-bit images (H, W), 4:3 and multiples of 12 and 16, with texture of several sizes."""
    unit = round((megapixels * 1e6 / (12 * 16)) ** 0.5)
    shape = 12 * unit, 16 * unit
    rng = np.random.default_rng(0)
    noise = [ndimage.gaussian_filter(rng.normal(size=shape), s) for s in (4, 1)]
    ir, vi = (128 + 50 * x / x.std() for x in noise)
    return [np.rint(x.clip(0, 255)).astype(np.uint8) for x in (ir, vi, np.maximum(ir, vi))]


def plain_qabf(ir, vi, fused):
    def edges(x):
        g_x, g_y = (ndimage.sobel(x, axis=a, mode="constant") for a in (1, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            angle = np.where(g_x == 0, np.pi / 2, np.arctan(-g_y / g_x))
        return np.sqrt(g_x**2 + g_y**2), angle

    g_f, a_f = edges(fused)
    top = bottom = 0
    for g, a in (edges(ir), edges(vi)):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(g == g_f, g_f, np.minimum(g, g_f) / np.maximum(g, g_f))
        alike = 1 - np.abs(a - a_f) / (np.pi / 2)
        q = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879
        q = q / (1 + np.exp(-22 * (alike - 0.8)))
        top, bottom = top + (q * g).sum(), bottom + g.sum()
    return top / bottom


def plain_qcv(ir, vi, fused):
    ir, vi, fused = (
        np.floor(255 * (x - x.min()) / (x.max() - x.min()) + 0.5) for x in (ir, vi, fused)
    )
    height, width = fused.shape
    p, q = (np.fft.fftfreq(n, 1 / n) for n in (height, width))
    r = np.sqrt(p[:, None] ** 2 + q**2) / 4
    theta = 2.6 * (0.0192 + 0.144 * r) * np.exp(-((0.144 * r) ** 1.1))

    def tiles(x):
        x = np.pad(x, ((0, -height % 16), (0, -width % 16)))
        return x.reshape(x.shape[0] // 16, 16, -1, 16).sum(axis=(1, 3))

    top = bottom = 0
    for x in (ir, vi):
        g_x, g_y = (ndimage.sobel(x, axis=a, mode="constant") for a in (1, 0))
        saliency = tiles(np.sqrt(g_x**2 + g_y**2) ** 5)
        error = np.fft.ifft2(np.fft.fft2(x - fused) * theta).real
        top = top + (saliency * tiles(error**2) / 256).sum()
        bottom = bottom + saliency.sum()
    return top / bottom


def gaussian(size, sigma):
    offsets = np.arange(size) - size // 2
    window = np.exp(-(offsets**2) / (2 * sigma**2))
    return window / window.sum()


def local(x, window):
    half = len(window) // 2
    x = ndimage.correlate1d(ndimage.correlate1d(x, window, 0), window, 1)
    return x[half:-half, half:-half]


def plain_ssim(ir, vi, fused):
    window, total = gaussian(11, 1.5), 0
    for x in (ir, vi):
        m_x, m_f = local(x, window), local(fused, window)
        v_x, v_f = local(x * x, window) - m_x**2, local(fused * fused, window) - m_f**2
        cov = local(x * fused, window) - m_x * m_f
        top = (2 * m_x * m_f + 6.5025) * (2 * cov + 58.5225)
        total += (top / ((m_x**2 + m_f**2 + 6.5025) * (v_x + v_f + 58.5225))).mean()
    return total


def plain_ag(ir, vi, fused):
    d_y, d_x = np.gradient(fused)
    return np.sqrt((d_x**2 + d_y**2) / 2).sum() / np.prod(np.subtract(fused.shape, 1))


def plain_vif(ir, vi, fused):
    def one(x, f):
        top = bottom = 0
        for scale, size in enumerate((17, 9, 5, 3)):
            window = gaussian(size, size / 5)
            if scale:
                x, f = local(x, window)[::2, ::2], local(f, window)[::2, ::2]
            m_x, m_f = local(x, window), local(f, window)
            v_x, v_f = local(x * x, window) - m_x**2, local(f * f, window) - m_f**2
            cov = local(x * f, window) - m_x * m_f
            v_x, v_f = np.maximum(v_x, 0), np.maximum(v_f, 0)
            g = cov / (v_x + 1e-10)
            v = v_f - g * cov
            g, v = np.where(v_x < 1e-10, 0, g), np.where(v_x < 1e-10, v_f, v)
            v_x = np.where(v_x < 1e-10, 0, v_x)
            g, v = np.where(v_f < 1e-10, 0, g), np.where(v_f < 1e-10, 0, v)
            v, g = np.maximum(np.where(g < 0, v_f, v), 1e-10), np.maximum(g, 0)
            top += np.log10(1 + g**2 * v_x / (v + 2)).sum()
            bottom += np.log10(1 + v_x / 2).sum()
        return top / bottom

    return (one(ir, fused) + one(vi, fused)) / 2


def plain_scd(ir, vi, fused):
    def r(a, b):
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]

    return r(fused - vi, ir) + r(fused - ir, vi)


PLAIN = {name: globals()[f"plain_{name}"] for name in PAPER}


def seconds(call) -> float:
    """Processor seconds, which other processes disturb less than the clock."""
    start = time.process_time()
    call()
    return time.process_time() - start


def compare(ir, vi, fused, names, repeats) -> tuple[float, float, float]:
    """Medians of once, next and plain, taken in turn."""
    floats = [x.astype(np.float64) for x in (ir, vi, fused)]
    kept = Sources(ir, vi)
    for name in names:
        ours, plain = measure(kept, fused, [name])[name].value, PLAIN[name](*floats)
        assert abs(ours / plain - 1) < 1e-9, (name, ours, plain)
    times = [
        (
            seconds(lambda: measure(Sources(ir, vi), fused, names)),
            seconds(lambda: measure(kept, fused, names)),
            seconds(lambda: [PLAIN[name](*floats) for name in names]),
        )
        for _ in range(repeats)
    ]
    return tuple(statistics.median(column) for column in zip(*times, strict=True))


def planes(ir, vi, fused) -> float:
    """Most memory in use during all six metrics, in float64 planes of the images' size."""
    tracemalloc.start()
    measure(Sources(ir, vi), fused, PAPER)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / (8 * ir.size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=float, default=[0.1, 0.3, 1, 5])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows = []
    print("| megapixels | metric | once, s/MP | next, s/MP | plain, s/MP | plain / once |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for size in options.sizes:
        triple = images(size)
        area = triple[0].size / 1e6
        groups = {METRICS[name].symbol: [name] for name in PAPER if size == 1}
        for title, names in (groups | {"all six": list(PAPER)}).items():
            times = compare(*triple, names, options.repeats)
            once, after, plain = (t / area for t in times)
            row = (f"{area:.2f}", title, *(f"{t:.3f}" for t in (once, after, plain)))
            rows.append((*row, f"{plain / once:.1f}"))
            print("| " + " | ".join(rows[-1]) + " |", flush=True)
        print(f"| {area:.2f} | memory | {planes(*triple):.0f} planes | | | |", flush=True)
    header = ("megapixels", "metric", "once_s_per_mp", "next_s_per_mp", "plain_s_per_mp", "ratio")
    write(__file__, header, rows)


if __name__ == "__main__":
    main()
