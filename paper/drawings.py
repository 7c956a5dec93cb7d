"""Figures 1 to 3 of the paper, drawn: the network, CII and CFF, with the shape of every tensor.

A drawing is boxes, circles and arrows on a canvas measured in inches, x right and y up. Shapes are
written without the batch, as ``C×H×W``; an arrow has its tensor's symbol above, its shape below.
"""

from collections.abc import Callable
from functools import cache

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from PIL import Image

from fusionlib.files import DATA
from fusionlib.images import read_ir, read_vi, replace_luma
from fusionlib.inference import load_fuser
from paper.figures import INFRARED, SEMANTIC, STYLE, TEXT_WIDTH, VISIBLE

Point = tuple[float, float]

FUSED = "#4c8c2b"
PLAIN = "#ffffff"
INK, FAINT = "#222222", "#6a6a6a"
LINE = 0.8  # points
SMALL, TINY = 7, 6  # font sizes
SPACING = 0.125  # inches, of lines in a box
RADIUS = 0.11  # inches, of a circle with an operator
CARD = (0.62, 0.92)  # inches, of a box with a picture
PIXELS = (180, 240)  # width and height of a picture
SEVERAL = "C×H×W"
MIDDLE = 1.85
ROWS = (2.98, 0.72)  # of the infrared and of the visible image, in Figures 1 and 3
INPUTS = (("i", "1×H×W", INFRARED), ("v", "3×H×W", VISIBLE))  # index, shape, colour
FROZEN = "❄"


@cache
def pictures() -> dict[str, np.ndarray]:
    """The mug of ``data/real`` (CC0): ``i``, ``v``, fused by the shipped weights ``f``, in colour.

    Returns:
        Name → (240, 180) or (240, 180, 3), grey levels 0–255.
    """
    ir, vi = (
        np.asarray(Image.fromarray(np.uint8(255 * image)).resize(PIXELS), np.float32) / 255
        for image in (read_ir(DATA / "real/ir/mug.png"), read_vi(DATA / "real/vi/mug.png"))
    )
    y = load_fuser()(ir, vi)
    images = {"i": ir, "v": vi, "f": y, "colour": replace_luma(vi, y)}
    return {name: np.uint8(np.round(255 * image)) for name, image in images.items()}


def pale(colour: str) -> tuple[float, ...]:
    """The colour of a box whose lines have this one."""
    return tuple(1 - 0.2 * (1 - channel) for channel in mpl.colors.to_rgb(colour))


class Canvas:
    """An empty figure whose unit is the inch.

    Args:
        width: inches.
        height: inches.
    """

    def __init__(self, width: float, height: float):
        self.figure: Figure = plt.figure(figsize=(width, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")

    def box(self, at: Point, size: Point, text: str, colour: str = PLAIN, **style: object) -> None:
        """A box with its centre ``at`` a point.

        The first line of the text is its name; a line after ``~`` is a choice of this project.
        """
        (x, y), (width, height) = at, size
        corner = (x - width / 2, y - height / 2)
        shape = "round,pad=0,rounding_size=0.05"
        edge = {"ec": INK, "lw": LINE, "zorder": 2} | style
        self.axes.add_patch(FancyBboxPatch(corner, width, height, shape, fc=pale(colour), **edge))
        name, *rest = text.split("\n")
        top = y + SPACING * len(rest) / 2
        weight = "bold" if rest else "normal"
        self.text((x, top), name, size=SMALL, weight=weight)
        for i, line in enumerate(rest, 1):
            slant = "italic" if line.startswith("~") else "normal"
            self.text((x, top - SPACING * i), line.removeprefix("~"), style=slant)

    def card(self, at: Point, picture: str, text: str, colour: str, **style: object) -> None:
        """A box with one of `pictures` and a line below it."""
        x, y = at
        left, right, low, high = x - 0.27, x + 0.27, y - 0.29, y + 0.43
        self.box(at, CARD, "", colour, **style)
        self.axes.imshow(
            pictures()[picture], cmap="gray", vmin=0, vmax=255, extent=(left, right, low, high),
            aspect="auto", zorder=3,
        )  # fmt: skip
        self.text((x, y - 0.375), text)

    def operator(self, at: Point, sign: str) -> None:
        """A circle with ⊙, + or σ."""
        self.axes.add_patch(Circle(at, RADIUS, fc=PLAIN, ec=INK, lw=LINE, zorder=3))
        self.text(at, sign, size=SMALL + 1, zorder=4)

    def text(self, at: Point, text: str, size: float = TINY, **style: object) -> None:
        """Text around a point."""
        where = {"ha": "center", "va": "center_baseline", "color": INK, "zorder": 3} | style
        self.axes.text(*at, text, fontsize=size, **where)

    def arrow(
        self, *points: Point, symbol: str = "", shape: str = "", at: Point = (), colour: str = INK,
        dashed: bool = False,
    ) -> None:  # fmt: skip
        """A line through points with a head at the last.

        Args:
            points: corners; the last two give the direction of the head.
            symbol: written above the line.
            shape: written below it.
            at: where both stand; by default the middle of the first piece.
            colour: of what it carries.
            dashed: whether this project added it.
        """
        xs, ys = zip(*points, strict=True)
        line = {"color": colour, "lw": LINE if colour == INK else 1.2, "ls": "--" * dashed or "-"}
        self.axes.plot(xs, ys, solid_joinstyle="round", zorder=1, **line)
        tip = (xs[-1] - np.sign(xs[-1] - xs[-2]) * 0.05, ys[-1] - np.sign(ys[-1] - ys[-2]) * 0.05)
        head = FancyArrowPatch(tip, points[-1], arrowstyle="-|>,head_length=3,head_width=1.6",
                               shrinkA=0, shrinkB=0, color=colour, lw=LINE, zorder=2)  # fmt: skip
        self.axes.add_patch(head)
        x, y = at or ((xs[0] + xs[1]) / 2, (ys[0] + ys[1]) / 2)
        if symbol:
            self.text((x, y + 0.09), symbol, size=SMALL)
        if shape:
            self.text((x, y - 0.09), shape)

    def dots(self, *points: Point, colour: str = INK) -> None:
        """Marks where a line branches."""
        for point in points:
            self.axes.add_patch(Circle(point, 0.026, color=colour, zorder=3))

    def legend(self, x: float, y: float) -> None:
        """What colours, dashes, slanted letters and the snowflake mean; (x, y) is its start."""
        names = {"infrared": INFRARED, "visible": VISIBLE, "semantics": SEMANTIC, "fused": FUSED}
        for i, (name, colour) in enumerate(names.items()):
            at = x + 0.7 * (i % 2), y - 0.13 * (i // 2)
            self.axes.plot([at[0] + 0.01, at[0] + 0.09], [at[1]] * 2, color=colour, lw=4)
            self.text((at[0] + 0.14, at[1]), name, ha="left")
        self.text((x + 0.05, y - 0.26), FROZEN, size=SMALL, color=SEMANTIC)
        self.text((x + 0.14, y - 0.26), "frozen, never trained", ha="left")
        self.axes.plot([x, x + 0.1], [y - 0.39] * 2, color=INK, lw=LINE, ls=(0, (2, 1)))
        self.text((x + 0.14, y - 0.39), "dashed: not in the paper", ha="left")
        self.text((x + 0.05, y - 0.52), "x", style="italic")
        self.text((x + 0.14, y - 0.52), "slanted: chosen here, not said there", ha="left")


def _drawn(height: float, *parts: Callable[[Canvas], None]) -> Figure:
    with mpl.rc_context(STYLE):
        canvas = Canvas(TEXT_WIDTH, height)
        for draw in parts:
            draw(canvas)
    return canvas.figure


def draw_network(encoder_title: str) -> Figure:
    """Figure 1: the whole network.

    Dashed is what the paper's text does not have: the stand-in for CLIP, and the way of the colour.

    Args:
        encoder_title: what stands for CLIP, from `ImageEncoder.title`.
    """
    return _drawn(3.55, lambda canvas: _draw_encoders(canvas, encoder_title), _draw_fusion)


def draw_injection() -> Figure:
    """Figure 2: CLIP-driven information injection, CII, equations 1 and 2."""
    return _drawn(3.45, _draw_mixing, _draw_expansion)


def draw_feature_fusion() -> Figure:
    """Figure 3: CLIP-guided feature fusion, CFF, equations 3 to 5."""
    return _drawn(4.15, _draw_channel_weights, _draw_spatial_weights)


def _draw_encoders(canvas: Canvas, encoder_title: str) -> None:
    """Left part of Figure 1: images, IRE, VIE, the frozen encoder, CII."""
    stages = "2 × feature\nextraction layer\nN × Restormer"
    for y, name, (which, shape, colour) in zip(ROWS, ("IRE", "VIE"), INPUTS, strict=True):
        away = 1 if y > MIDDLE else -1  # from the middle
        canvas.card((0.45, y), which, f"$I_{which}$  {shape}", colour)
        canvas.arrow((0.76, y), (1.16, y), colour=colour)
        canvas.box((1.62, y), (0.92, 0.66), f"{name}\n{stages}", colour)
        canvas.arrow((2.08, y), (2.72, y), symbol=f"$F_{which}$", shape=SEVERAL, colour=colour)
        canvas.box((2.97, y), (0.5, 0.5), "CII\nFig. 2", SEMANTIC)
        canvas.arrow((3.22, y), (3.8, y), symbol=rf"$\hat{{F}}_{which}$", shape=SEVERAL,
                     colour=colour)  # fmt: skip
        canvas.arrow((0.45, y - 0.46 * away), (0.45, MIDDLE + 0.2 * away),
                     (0.87, MIDDLE + 0.2 * away), colour=colour)  # fmt: skip
        canvas.arrow((2.97, MIDDLE), (2.97, y - 0.25 * away), colour=SEMANTIC)
    at, stand_in = (1.62, MIDDLE), encoder_title.replace(" (", "\n~(", 1)
    canvas.box(at, (1.5, 0.86), "", SEMANTIC)
    canvas.text((1.62, MIDDLE + 0.32), f"image encoder {FROZEN}", size=SMALL, weight="bold")
    canvas.text((1.62, MIDDLE + 0.19), "in the paper: CLIP")
    canvas.box((1.62, MIDDLE - 0.14), (1.36, 0.46), f"here\n~{stand_in}", PLAIN, ls="--")
    canvas.arrow((2.37, MIDDLE), (3.8, MIDDLE), symbol="$F_i^c$, $F_v^c$", shape="E each",
                 at=(2.67, MIDDLE), colour=SEMANTIC)  # fmt: skip
    canvas.dots((2.97, MIDDLE), colour=SEMANTIC)


def _draw_fusion(canvas: Canvas) -> None:
    """Right part of Figure 1: CFF, FD, the fused image, and how it gets its colour."""
    canvas.box((4.06, MIDDLE), (0.52, 2.76), "CFF\nFig. 3", FUSED)
    canvas.arrow((4.32, MIDDLE), (4.9, MIDDLE), symbol=r"$\hat{F}_f$", shape="2C×H×W", colour=FUSED)
    stages = "N × Restormer\nfeature\nextraction layer\n3×3 conv., Tanh"
    canvas.box((5.34, MIDDLE), (0.88, 0.78), f"FD\n{stages}", FUSED)
    canvas.arrow((5.78, MIDDLE), (6.25, MIDDLE), colour=FUSED)
    canvas.card((6.56, MIDDLE), "f", "$I_f$  1×H×W", FUSED)
    canvas.card((6.56, 0.62), "colour", "in colour", FUSED, ls="--")
    canvas.arrow((6.56, MIDDLE - 0.46), (6.56, 1.08), dashed=True, colour=FUSED)
    canvas.arrow((0.45, 0.26), (0.45, 0.12), (6.0, 0.12), (6.0, 0.62), (6.25, 0.62),
                 symbol="colour ($C_b$, $C_r$) of the visible image", at=(5.0, 0.12), dashed=True,
                 colour=VISIBLE)  # fmt: skip
    canvas.legend(4.9, 3.3)


def _draw_clip(canvas: Canvas, left: float, rows: tuple[float, float], end: float) -> None:
    """Both images, the frozen encoder, and an arrow with each one's feature, to ``end``."""
    middle = sum(rows) / 2
    for y, (which, shape, colour) in zip(rows, INPUTS, strict=True):
        canvas.card((left, y), which, f"$I_{which}$  {shape}", colour)
        canvas.arrow((left + 0.31, y), (left + 0.5, y), colour=colour)
        canvas.arrow((left + 1.24, y), (end, y), symbol=f"$F_{which}^c$", shape="E",
                     colour=SEMANTIC)  # fmt: skip
    size, x = (0.74, rows[0] - rows[1] + 0.5), left + 0.87
    canvas.box((x, middle), size, f"CLIP {FROZEN}\nimage encoder", SEMANTIC)
    canvas.box((x, middle - 0.3), (0.62, 0.22), "here: Fig. 1", ls="--")


def _draw_mixing(canvas: Canvas) -> None:
    """Upper part of Figure 2: equation 1."""
    rows, high, mixed = (2.92, 1.96), 2.44, 2.16
    _draw_clip(canvas, 0.4, rows, mixed - RADIUS)
    for y, weight in zip(rows, ("$W_i$\nE, learned", "$W_v = 1 - W_i$\nE"), strict=True):
        canvas.operator((mixed, y), "⊙")
        canvas.box((3.0, y), (0.96, 0.36), weight)
        canvas.arrow((2.52, y), (mixed + RADIUS, y))
        side = RADIUS if y < high else -RADIUS
        canvas.arrow((mixed, y + side), (mixed, high - side), colour=SEMANTIC)
    canvas.operator((mixed, high), "+")
    canvas.arrow((mixed + RADIUS, high), (3.65, high), shape="E", at=(3.0, high), colour=SEMANTIC)
    adapter = "Adapter $A$\n~linear, E → E/8\n~linear, E/8 → C"
    canvas.box((4.2, high), (1.1, 0.54), adapter, SEMANTIC)
    canvas.arrow((4.75, high), (5.2, high), (5.2, 0.85 + RADIUS), colour=SEMANTIC)
    canvas.text((5.27, high + 0.04), "$F^c$  (eq. 1)", size=SMALL, ha="left")
    canvas.text((5.27, high - 0.1), "C×1×1", ha="left")
    canvas.text((5.27, 1.5), "the same at every pixel", ha="left", color=FAINT)
    canvas.legend(5.0, 3.3)


def _draw_expansion(canvas: Canvas) -> None:
    """Lower part of Figure 2: SEP, sigmoid and the sum of equation 2."""
    y, skip = 0.85, 0.2
    canvas.box((0.4, y), (0.6, 0.42), "$F_i$ or $F_v$\nC×H×W")
    canvas.arrow((0.7, y), (1.55, y))
    canvas.box((2.15, y), (1.2, 0.62), "SEP\n3×3 conv., C → C\nReLU\n3×3 conv., C → C", SEMANTIC)
    canvas.arrow((2.75, y), (3.4 - RADIUS, y), shape=SEVERAL)
    canvas.operator((3.4, y), "σ")
    canvas.arrow((3.4 + RADIUS, y), (5.2 - RADIUS, y), symbol="$W$", shape=SEVERAL, at=(4.15, y))
    canvas.operator((5.2, y), "⊙")
    canvas.arrow((5.2 + RADIUS, y), (5.95 - RADIUS, y), symbol="$F^s$", shape=SEVERAL,
                 colour=SEMANTIC)  # fmt: skip
    canvas.operator((5.95, y), "+")
    canvas.arrow((1.0, y), (1.0, skip), (5.95, skip), (5.95, y - RADIUS), shape=SEVERAL,
                 at=(3.4, skip + 0.18))  # fmt: skip
    canvas.dots((1.0, y))
    canvas.arrow((5.95 + RADIUS, y), (6.38, y))
    canvas.box((6.68, y), (0.6, 0.42), "$\\hat{F}_i$ or $\\hat{F}_v$\nC×H×W")
    canvas.text((5.95, y + 0.24), "eq. 2", size=SMALL)


def _draw_channel_weights(canvas: Canvas) -> None:
    """Left part of Figure 3: IRA, VIA and the concatenation of equation 3."""
    rows, outers, mixed, joined, middle = (2.56, 1.6), (3.72, 0.44), 2.4, 3.1, 2.08
    _draw_clip(canvas, 0.4, rows, mixed - 0.4)
    for y, outer, name, (which, _, colour) in zip(
        rows, outers, ("IRA", "VIA"), INPUTS, strict=True
    ):
        away = 1 if y > middle else -1  # from the middle
        canvas.box((0.4, outer), (0.62, 0.42), f"$\\hat{{F}}_{which}$\nC×H×W", colour)
        canvas.arrow((0.71, outer), (mixed - RADIUS, outer), colour=colour)
        canvas.operator((mixed, outer), "⊙")
        canvas.box((mixed, y), (0.8, 0.42), f"{name}\ntwo linear layers\nE → C", SEMANTIC)
        canvas.arrow((mixed, y + 0.21 * away), (mixed, outer - RADIUS * away), colour=SEMANTIC)
        x, half = mixed - 0.06, (y + outer) / 2
        canvas.text((x, half + 0.06), f"$W_{which}^c$", size=SMALL, ha="right")
        canvas.text((x, half - 0.08), "C×1×1", ha="right")
        canvas.arrow((mixed + RADIUS, outer), (joined, outer), (joined, middle + 0.16 * away),
                     shape=SEVERAL, colour=colour)  # fmt: skip
    canvas.box((joined, middle), (0.46, 0.32), "concat.", FUSED)


def _draw_spatial_weights(canvas: Canvas) -> None:
    """Right part of Figure 3: Sobel and SAWP of equation 4, the sum of equation 5."""
    y, low, high, product, total = 2.08, 0.8, 2.75, 5.55, 6.2
    canvas.arrow((3.33, y), (product - RADIUS, y), at=(4.02, y),
                 symbol="$F_f$  (eq. 3)", shape="2C×H×W", colour=FUSED)  # fmt: skip
    canvas.dots((3.45, y), (4.6, y), colour=FUSED)
    canvas.arrow((3.45, y), (3.45, low), (3.6, low), colour=FUSED)
    canvas.box((3.96, low), (0.72, 0.5), "Sobel\n~$|G_x| + |G_y|$\n2C×H×W", FUSED)
    canvas.arrow((4.32, low), (4.47, low), colour=FUSED)
    canvas.box(
        (4.93, low), (0.92, 0.62), "SAWP\n~3×3 conv., 2C → C\nReLU\n~3×3 conv., C → 1", FUSED
    )
    canvas.arrow((5.39, low), (product, low), (product, 1.25 - RADIUS))
    canvas.operator((product, 1.25), "σ")
    canvas.arrow((product, 1.25 + RADIUS), (product, y - RADIUS))
    canvas.text((product + 0.07, 1.7), "$W_s$  (eq. 4)", size=SMALL, ha="left")
    canvas.text((product + 0.07, 1.57), "1×H×W", ha="left")
    canvas.operator((product, y), "⊙")
    canvas.arrow((product + RADIUS, y), (total - RADIUS, y), shape="2C×H×W", colour=FUSED)
    canvas.operator((total, y), "+")
    canvas.arrow((4.6, y), (4.6, high), (total, high), (total, y + RADIUS), shape="2C×H×W",
                 at=(5.4, high), colour=FUSED)  # fmt: skip
    canvas.arrow((total + RADIUS, y), (6.52, y), colour=FUSED)
    canvas.box((6.79, y), (0.54, 0.42), "$\\hat{F}_f$\n2C×H×W", FUSED)
    canvas.text((total + 0.05, y + 0.24), "eq. 5", size=SMALL, ha="left")
    canvas.legend(4.9, 3.9)
