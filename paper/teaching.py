"""What the teaching notebooks share: a pair as tensors, parts replaced, pictures, sliders."""

import io
import itertools
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from IPython.display import display
from ipywidgets import ValueWidget, VBox
from matplotlib import pyplot as plt
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor, nn

from fusionlib.datasets import Pair, load_pair
from fusionlib.files import REPOSITORY
from fusionlib.images import luma
from fusionlib.inference import Fuser
from fusionlib.network import FusionNet
from paper.figures import INFRARED, STYLE, VISIBLE, image_grid

SIZE = (256, 192)  # width, height; one size, so that shapes do not depend on the data
REAL = REPOSITORY / "data" / "real"
MUG = Pair("real", "mug", REAL / "ir" / "mug.png", REAL / "vi" / "mug.png")
CELL = 3.0  # inches, width of a picture: 300 pixels on the screen
SOURCES = LinearSegmentedColormap.from_list("sources", [VISIBLE, "white", INFRARED])
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Scene:
    """One pair in the forms that the notebooks need.

    Attributes:
        name: of the pair.
        ir: infrared, (H, W), in [0, 1].
        vi: visible RGB, (H, W, 3), in [0, 1].
        ir_input: infrared as the network takes it, (1, 1, H, W), in [-1, 1].
        vi_input: visible likewise, (1, 3, H, W).
        c_ir: the encoder's features of the infrared image, (1, E), in the encoder's own scale.
        c_vi: those of the visible image.
    """

    name: str
    ir: np.ndarray
    vi: np.ndarray
    ir_input: Tensor
    vi_input: Tensor
    c_ir: Tensor
    c_vi: Tensor

    @property
    def y(self) -> np.ndarray:
        """Luma of the visible image, (H, W), in [0, 1]."""
        return luma(self.vi)


def open_scene(fuser: Fuser, pair: Pair, size: tuple[int, int] = SIZE) -> Scene:
    """Read a pair, scale and crop it around its centre to one (width, height), and encode it."""
    ir, vi = load_pair(pair)
    planes = [ImageOps.fit(Image.fromarray(plane), size) for plane in (ir, *np.moveaxis(vi, 2, 0))]
    ir, *rgb = (np.asarray(plane).clip(0, 1) for plane in planes)
    return make_scene(fuser, pair.name, ir, np.stack(rgb, axis=2))


def make_scene(fuser: Fuser, name: str, ir: np.ndarray, vi: np.ndarray) -> Scene:
    """Encode two arrays, (H, W) and (H, W, 3) in [0, 1], with a fuser's encoder on its device."""
    ir_tensor = torch.from_numpy(ir)[None, None].float().to(fuser.device)  # (1, 1, H, W)
    vi_tensor = torch.from_numpy(vi).permute(2, 0, 1)[None].float().to(fuser.device)
    features = fuser.encoder(ir_tensor), fuser.encoder(vi_tensor)
    return Scene(name, ir, vi, 2 * ir_tensor - 1, 2 * vi_tensor - 1, *features)


@torch.no_grad()
def fuse(net: FusionNet, scene: Scene) -> np.ndarray:
    """Fused luma of a scene, (H, W), in [0, 1]."""
    fused = net(scene.ir_input, scene.vi_input, scene.c_ir, scene.c_vi)
    return ((fused[0, 0] + 1) / 2).cpu().numpy()


@contextmanager
def replaced(module: nn.Module, function: Callable[..., Tensor]) -> Iterator[None]:
    """Inside, ``module`` returns ``function`` of its inputs instead of its own result."""
    with module.register_forward_hook(lambda _module, inputs, _output: function(*inputs)):
        yield


@contextmanager
def watched(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Inside, the latest result of each module is kept under its name."""
    seen: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, module in modules.items():
            keep = partial(lambda name, _module, _inputs, output: seen.update({name: output}), name)
            stack.enter_context(module.register_forward_hook(keep))
        yield seen


def pictures(
    rows: Sequence[Sequence[np.ndarray]], columns: Sequence[str], names: Sequence[str] = ()
) -> Figure:
    """Images in rows and columns as `paper.figures.image_grid` draws them, 300 pixels each."""
    return image_grid(rows, columns, names, width=CELL * len(columns))


def numbers(
    rows: Sequence[Sequence[Tensor]], columns: Sequence[str], names: Sequence[str] = ()
) -> Figure:
    """Small tensors as grids of their numbers: purple below zero, white zero, green above.

    Each column has its own scale of colours.

    Args:
        rows: (H, W) each.
        columns: titles above the first row.
        names: labels left of the rows.
    """
    arrays = [[tensor.detach().numpy() for tensor in row] for row in rows]
    most = [max(np.abs(array).max() for array in column) for column in zip(*arrays, strict=True)]
    widths = [array.shape[1] for array in arrays[0]]
    heights = [max(array.shape[0] for array in row) for row in arrays]
    size = (0.42 * sum(widths) + 0.5 * len(widths) + bool(names), 0.45 * sum(heights) + 0.3)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(rows), len(columns), figsize=size, squeeze=False, layout="constrained",
            width_ratios=widths, height_ratios=heights,
        )  # fmt: skip
        for i, (axis, array) in enumerate(zip(axes.flat, itertools.chain(*arrays), strict=True)):
            limit = 2 * most[i % len(columns)]  # pale, for black text
            axis.imshow(array, cmap="PRGn", vmin=-limit, vmax=limit)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(visible=True, color="0.6")
            for (row, column), value in np.ndenumerate(array.round(4) + 0.0):  # no −0
                text = f"{value:.2g}".replace("-", "−")
                axis.text(column, row, text, ha="center", va="center")
        for axis, title in zip(axes[0], columns, strict=True):
            axis.set_title(title)
        for axis, name in zip(axes[:, 0], names, strict=False):
            axis.set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def heat(
    image: np.ndarray,
    weight: np.ndarray,
    limits: tuple[float, float],
    cmap: str | Colormap = "inferno",
) -> np.ndarray:
    """A weight map in colour over a scene in grey, (H, W, 3), in [0, 1].

    Args:
        image: (H, W), in [0, 1]; a third of it shines through.
        weight: (H, W).
        limits: weights at the ends of the colours.
        cmap: colours; `SOURCES` from visible (blue) to infrared (orange).
    """
    low, high = limits
    colours = plt.get_cmap(cmap)(np.clip((weight - low) / (high - low), 0, 1))[..., :3]
    return 0.65 * colours + 0.35 * image[..., None]


def show(figure: Figure) -> None:
    """Display a figure as a small PNG and close it."""
    display(_to_png(figure), raw=True)


def explore(draw: Callable[..., Figure], **controls: ValueWidget) -> None:
    """Show a figure below controls that redraw it.

    The picture is an ordinary output, so it stays in the notebook when there is no live kernel;
    only the controls, an output of their own, are gone then.

    Args:
        draw: takes the values of the controls by name.
        controls: ipywidgets; their first values give the picture that stays.
    """

    def drawn() -> dict[str, object]:
        return _to_png(draw(**{name: control.value for name, control in controls.items()}))

    for control in controls.values():
        if control.has_trait("continuous_update"):
            control.continuous_update = False  # one redraw when the mouse is released
    box = VBox(list(controls.values()))
    names = ", ".join(control.description or name for name, control in controls.items())
    note = f"(controls, with a live kernel: {names})"
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    display({WIDGET: view, "text/plain": note}, raw=True)
    handle = display(drawn(), raw=True, display_id=True)
    for control in controls.values():
        control.observe(lambda _change: handle.update(drawn(), raw=True), names="value")


def _to_png(figure: Figure) -> dict[str, object]:
    """A figure as an output, a PNG of 256 colours; closes it."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=figure.dpi, bbox_inches="tight", pad_inches=0.05)
    plt.close(figure)  # or it would be displayed once more at the end of the cell
    image = Image.open(drawn).convert("RGB")
    few = image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(small, "PNG", optimize=True)
    return {"image/png": b64encode(small.getvalue()).decode(), "text/plain": "(figure)"}
