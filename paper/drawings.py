"""Figures 1 to 3 of the paper, drawn: the network, CII and CFF, with the shape of every tensor.

A drawing is boxes, circles and arrows on a canvas measured in inches, x right and y up. Shapes are
written without the batch, as ``C×H×W``; an arrow has its tensor's symbol above, its shape below.
"""

from collections.abc import Callable

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from paper.figures import STYLE, TEXT_WIDTH

Point = tuple[float, float]

INFRARED, VISIBLE = "#f7dccb", "#cfe3f2"
ENCODER, FUSION, PLAIN = "#e4def0", "#dcebd3", "#ffffff"
INK, FAINT = "#222222", "#8a8a8a"
LINE = 0.8  # points
SMALL, TINY = 7, 6  # font sizes
SPACING = 0.125  # inches, of lines in a box
RADIUS = 0.11  # inches, of a circle with an operator
SEVERAL = "C×H×W"
MIDDLE = 1.65
ROWS = (2.75, 0.55)  # of the infrared and of the visible image, in Figures 1 and 3
INPUTS = (("i", "1×H×W", INFRARED), ("v", "3×H×W", VISIBLE))  # index, shape, colour


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
        """A box with its centre ``at`` a point; the first line of the text is its name."""
        (x, y), (width, height) = at, size
        corner = (x - width / 2, y - height / 2)
        shape = "round,pad=0,rounding_size=0.05"
        edge = {"ec": INK, "lw": LINE, "zorder": 2} | style
        self.axes.add_patch(FancyBboxPatch(corner, width, height, shape, fc=colour, **edge))
        name, *rest = text.split("\n")
        top = y + SPACING * len(rest) / 2
        self.text((x, top), name, size=SMALL, weight="bold" if rest else "normal")
        for i, line in enumerate(rest, 1):
            self.text((x, top - SPACING * i), line)

    def operator(self, at: Point, sign: str) -> None:
        """A circle with ⊙, + or σ."""
        self.axes.add_patch(Circle(at, RADIUS, fc=PLAIN, ec=INK, lw=LINE, zorder=3))
        self.text(at, sign, size=SMALL + 1, zorder=4)

    def text(self, at: Point, text: str, size: float = TINY, **style: object) -> None:
        """Text around a point."""
        where = {"ha": "center", "va": "center_baseline", "color": INK, "zorder": 3} | style
        self.axes.text(*at, text, fontsize=size, **where)

    def arrow(self, *points: Point, symbol: str = "", shape: str = "", at: Point = ()) -> None:
        """A line through points with a head at the last.

        Args:
            points: corners; the last two give the direction of the head.
            symbol: written above the line.
            shape: written below it.
            at: where both stand; by default the middle of the first piece.
        """
        xs, ys = zip(*points, strict=True)
        self.axes.plot(xs[:-1], ys[:-1], color=INK, lw=LINE, solid_joinstyle="round", zorder=1)
        head = FancyArrowPatch(*points[-2:], arrowstyle="-|>,head_length=3,head_width=1.6",
                               shrinkA=0, shrinkB=0, color=INK, lw=LINE, zorder=2)  # fmt: skip
        self.axes.add_patch(head)
        x, y = at or ((xs[0] + xs[1]) / 2, (ys[0] + ys[1]) / 2)
        if symbol:
            self.text((x, y + 0.09), symbol, size=SMALL)
        if shape:
            self.text((x, y - 0.09), shape)

    def dots(self, *points: Point) -> None:
        """Marks where a line branches."""
        for point in points:
            self.axes.add_patch(Circle(point, 0.022, color=INK, zorder=3))


def _drawn(height: float, *parts: Callable[[Canvas], None]) -> Figure:
    with mpl.rc_context(STYLE):
        canvas = Canvas(TEXT_WIDTH, height)
        for draw in parts:
            draw(canvas)
    return canvas.figure


def draw_network(encoder_title: str) -> Figure:
    """Figure 1: the whole network.

    Args:
        encoder_title: what stands for CLIP, from `ImageEncoder.title`.
    """
    return _drawn(3.3, lambda canvas: _draw_encoders(canvas, encoder_title), _draw_fusion)


def draw_injection() -> Figure:
    """Figure 2: CLIP-driven information injection, CII, equations 1 and 2."""
    return _drawn(2.9, _draw_mixing, _draw_expansion)


def draw_feature_fusion() -> Figure:
    """Figure 3: CLIP-guided feature fusion, CFF, equations 3 to 5."""
    return _drawn(3.3, _draw_channel_weights, _draw_spatial_weights)


def _draw_encoders(canvas: Canvas, encoder_title: str) -> None:
    """Left part of Figure 1: images, IRE, VIE, the frozen encoder, CII."""
    stages = "2 × feature\nextraction layer\nN × Restormer"
    for y, name, (which, shape, colour) in zip(ROWS, ("IRE", "VIE"), INPUTS, strict=True):
        away = 1 if y > MIDDLE else -1  # from the middle
        canvas.box((0.66, y), (0.52, 0.52), f"$I_{which}$\n{shape}", colour)
        canvas.arrow((0.92, y), (1.2, y))
        canvas.box((1.66, y), (0.92, 0.66), f"{name}\n{stages}", colour)
        canvas.arrow((2.12, y), (2.68, y), symbol=f"$F_{which}$", shape=SEVERAL)
        canvas.box((2.93, y), (0.5, 0.5), "CII\nFig. 2", ENCODER)
        canvas.arrow((3.18, y), (3.74, y), symbol=rf"$\hat{{F}}_{which}$", shape=SEVERAL)
        canvas.arrow((0.66, y - 0.26 * away), (0.66, MIDDLE + 0.33 * away))
        canvas.arrow((2.93, MIDDLE), (2.93, y - 0.25 * away))
    title = encoder_title.replace(" (", "\n(", 1)
    text = f"image encoder, frozen\nin the paper: CLIP; here:\n{title}"
    canvas.box((1.25, MIDDLE), (1.5, 0.66), text, ENCODER, ls="--")
    canvas.arrow((2.0, MIDDLE), (3.74, MIDDLE), symbol="$F_i^c$, $F_v^c$", shape="E each",
                 at=(2.42, MIDDLE))  # fmt: skip
    canvas.dots((2.93, MIDDLE))


def _draw_fusion(canvas: Canvas) -> None:
    """Right part of Figure 1: CFF, FD and the fused image."""
    canvas.box((4.0, MIDDLE), (0.52, 2.7), "CFF\nFig. 3", FUSION)
    canvas.arrow((4.26, MIDDLE), (4.86, MIDDLE), symbol=r"$\hat{F}_f$", shape="2C×H×W")
    stages = "N × Restormer\nfeature\nextraction layer\n3×3 conv., Tanh"
    canvas.box((5.3, MIDDLE), (0.88, 0.78), f"FD\n{stages}", FUSION)
    canvas.arrow((5.74, MIDDLE), (6.18, MIDDLE))
    canvas.box((6.44, MIDDLE), (0.52, 0.52), "$I_f$\n1×H×W", FUSION)


def _draw_clip(canvas: Canvas, left: float, rows: tuple[float, float], end: float) -> None:
    """Both images, the frozen encoder, and an arrow with each one's feature, to ``end``."""
    middle = sum(rows) / 2
    for y, (which, shape, colour) in zip(rows, INPUTS, strict=True):
        canvas.box((left, y), (0.5, 0.42), f"$I_{which}$\n{shape}", colour)
        canvas.arrow((left + 0.25, y), (left + 0.42, y))
        canvas.arrow((left + 1.16, y), (end, y), symbol=f"$F_{which}^c$", shape="E")
    size = (0.74, rows[0] - rows[1] + 0.42)
    text = "CLIP\nimage encoder,\nfrozen; here:\nsee Fig. 1"
    canvas.box((left + 0.79, middle), size, text, ENCODER, ls="--")


def _draw_mixing(canvas: Canvas) -> None:
    """Upper part of Figure 2: equation 1."""
    rows, high, mixed = (2.6, 1.85), 2.225, 2.1
    _draw_clip(canvas, 0.35, rows, mixed - RADIUS)
    for y, weight in zip(rows, ("$W_i$\nE, learned", "$W_v = 1 - W_i$\nE"), strict=True):
        canvas.operator((mixed, y), "⊙")
        canvas.box((2.95, y), (0.96, 0.36), weight)
        canvas.arrow((2.47, y), (mixed + RADIUS, y))
        side = RADIUS if y < high else -RADIUS
        canvas.arrow((mixed, y + side), (mixed, high - side))
    canvas.operator((mixed, high), "+")
    canvas.arrow((mixed + RADIUS, high), (3.65, high), shape="E", at=(3.54, high))
    adapter = "Adapter $A$\nlinear, E → E/8\nlinear, E/8 → C"
    canvas.box((4.2, high), (1.1, 0.54), adapter, ENCODER)
    canvas.arrow((4.75, high), (5.2, high), (5.2, 0.85 + RADIUS))
    canvas.text((5.27, high + 0.04), "$F^c$  (eq. 1)", size=SMALL, ha="left")
    canvas.text((5.27, high - 0.1), "C×1×1", ha="left")
    canvas.text((5.27, 1.5), "the same at every pixel", ha="left", color=FAINT)


def _draw_expansion(canvas: Canvas) -> None:
    """Lower part of Figure 2: SEP, sigmoid and the sum of equation 2."""
    y, skip = 0.85, 0.2
    canvas.box((0.4, y), (0.5, 0.42), "$F$\nC×H×W", FUSION)
    canvas.arrow((0.65, y), (1.55, y))
    canvas.box((2.15, y), (1.2, 0.62), "SEP\n3×3 conv., C → C\nReLU\n3×3 conv., C → C", ENCODER)
    canvas.arrow((2.75, y), (3.4 - RADIUS, y), shape=SEVERAL)
    canvas.operator((3.4, y), "σ")
    canvas.arrow((3.4 + RADIUS, y), (5.2 - RADIUS, y), symbol="$W$", shape=SEVERAL, at=(4.15, y))
    canvas.operator((5.2, y), "⊙")
    canvas.arrow((5.2 + RADIUS, y), (5.95 - RADIUS, y), symbol="$F^s$", shape=SEVERAL)
    canvas.operator((5.95, y), "+")
    canvas.arrow((1.0, y), (1.0, skip), (5.95, skip), (5.95, y - RADIUS), shape=SEVERAL,
                 at=(3.4, skip + 0.18))  # fmt: skip
    canvas.dots((1.0, y))
    canvas.arrow((5.95 + RADIUS, y), (6.45, y))
    canvas.box((6.7, y), (0.5, 0.42), "$\\hat{F}$\nC×H×W", FUSION)
    canvas.text((5.95, y + 0.24), "eq. 2", size=SMALL)


def _draw_channel_weights(canvas: Canvas) -> None:
    """Left part of Figure 3: IRA, VIA and the concatenation of equation 3."""
    rows, mixed, joined = (1.95, 1.35), 2.32, 3.04
    _draw_clip(canvas, 0.35, rows, mixed - 0.4)
    drawn = zip(rows, ROWS, ("IRA", "VIA"), INPUTS, strict=True)
    for y, outer, name, (which, _, colour) in drawn:
        away = 1 if y > MIDDLE else -1  # from the middle
        canvas.box((0.35, outer), (0.5, 0.42), f"$\\hat{{F}}_{which}$\nC×H×W", colour)
        canvas.arrow((0.6, outer), (mixed - RADIUS, outer))
        canvas.operator((mixed, outer), "⊙")
        canvas.box((mixed, y), (0.8, 0.42), f"{name}\ntwo linear layers\nE → C", ENCODER)
        canvas.arrow((mixed, y + 0.21 * away), (mixed, outer - RADIUS * away))
        x, middle = mixed - 0.06, (y + outer) / 2 + 0.1 * away
        canvas.text((x, middle + 0.06), f"$W_{which}^c$", size=SMALL, ha="right")
        canvas.text((x, middle - 0.08), "C×1×1", ha="right")
        canvas.arrow((mixed + RADIUS, outer), (joined, outer), (joined, MIDDLE + 0.16 * away),
                     shape=SEVERAL)  # fmt: skip
    canvas.box((joined, MIDDLE), (0.46, 0.32), "concat.", FUSION)


def _draw_spatial_weights(canvas: Canvas) -> None:
    """Right part of Figure 3: Sobel and SAWP of equation 4, the sum of equation 5."""
    y, low, high, product, total = MIDDLE, 0.55, 2.75, 5.55, 6.2
    canvas.arrow((3.27, y), (product - RADIUS, y), at=(4.0, y),
                 symbol="$F_f$  (eq. 3)", shape="2C×H×W")  # fmt: skip
    canvas.dots((3.45, y), (4.6, y))
    canvas.arrow((3.45, y), (3.45, low), (3.6, low))
    canvas.box((3.96, low), (0.72, 0.5), "Sobel\n$|G_x| + |G_y|$\n2C×H×W", FUSION)
    canvas.arrow((4.32, low), (4.47, low))
    canvas.box((4.93, low), (0.92, 0.62), "SAWP\n3×3 conv., 2C → C\nReLU\n3×3 conv., C → 1", FUSION)
    canvas.arrow((5.39, low), (product, low), (product, 0.95 - RADIUS))
    canvas.operator((product, 0.95), "σ")
    canvas.arrow((product, 0.95 + RADIUS), (product, y - RADIUS))
    canvas.text((product + 0.07, 1.33), "$W_s$  (eq. 4)", size=SMALL, ha="left")
    canvas.text((product + 0.07, 1.2), "1×H×W", ha="left")
    canvas.operator((product, y), "⊙")
    canvas.arrow((product + RADIUS, y), (total - RADIUS, y), shape="2C×H×W")
    canvas.operator((total, y), "+")
    canvas.arrow((4.6, y), (4.6, high), (total, high), (total, y + RADIUS), shape="2C×H×W",
                 at=(5.4, high))  # fmt: skip
    canvas.arrow((total + RADIUS, y), (6.52, y))
    canvas.box((6.79, y), (0.52, 0.42), "$\\hat{F}_f$\n2C×H×W", FUSION)
    canvas.text((total + 0.05, y + 0.24), "eq. 5", size=SMALL, ha="left")
