"""One run of the paper: what its seven parameters mean, and where its files go.

Every notebook starts with ``run = open_run(...)``, finds data and weights there, and writes what a
cell shows with ``run.save``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from fusionlib import evaluation
from fusionlib.datasets import DATASETS, SYNTHETIC, Pair
from fusionlib.encoder import EMBEDDED
from fusionlib.errors import FusionError
from fusionlib.files import file_sha256
from fusionlib.recipe import PRESETS, TrainConfig
from fusionlib.splits import QUICK_PAIRS, Split, find_parts
from fusionlib.weights import SHIPPED
from paper.figures import save_figure
from paper.tables import PaperTable, write_paper_table, write_table, write_texts


@dataclass(frozen=True)
class Run:
    """Checked parameters (see `open_run`), and the data they lead to.

    Attributes:
        root: folder the images were read from.
        parts: dataset → training, validation and test pairs; only datasets that are present.
        written: files that `save` wrote, relative to ``out_dir``.
    """

    preset: str
    root: Path
    parts: dict[str, dict[Split, list[Pair]]]
    encoder: str
    weights: Path
    out_dir: Path
    device: str
    seed: int
    written: list[str] = field(default_factory=list)

    @property
    def is_synthetic(self) -> bool:
        """Whether the images are drawn ones: no dataset was found, or they were asked for."""
        return SYNTHETIC in self.parts

    @property
    def data_title(self) -> str:
        """What captions call the images."""
        if self.is_synthetic:
            return "synthetic scenes"
        return ", ".join(f"{name} {len(parts['test'])}" for name, parts in self.parts.items())

    @property
    def config(self) -> TrainConfig:
        """Training recipe of the preset."""
        return PRESETS[self.preset]

    def pairs(self, part: Split, datasets: Sequence[str] = tuple(DATASETS)) -> list[Pair]:
        """Pairs of one part, of all or some datasets."""
        return [p for name in datasets if name in self.parts for p in self.parts[name][part]]

    @property
    def is_shipped(self) -> bool:
        """Whether weights, by their content, and encoder are those of the committed results."""
        return self.encoder == EMBEDDED and file_sha256(self.weights) == file_sha256(SHIPPED)

    @property
    def label(self) -> str:
        """Folder of the results: ``synthetic``, ``quick``, ``reference`` or ``own``.

        ``own``: other weights or another encoder than `is_shipped`; ``quick``: a few real pairs.
        """
        quick = "quick" if self.preset == "quick" else "reference"
        kind = "synthetic" if self.is_synthetic else quick
        return kind if self.is_shipped or kind == "quick" else "own"

    def folder(self, *names: str) -> Path:
        """A folder below ``out_dir``, made if needed."""
        path = self.out_dir.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def image_figures(self) -> Path:
        """Where figures that show images go: those of the datasets stay out of the repository."""
        return self.folder("figures", self.label if self.is_synthetic else "datasets")

    def tables(self) -> Path:
        """Where tables and per-image values go."""
        return self.folder("tables", self.label)

    def csv(self, name: str) -> Path:
        """Where `save` puts the CSV of a table; values that are there are not measured again."""
        return self.tables() / f"{name}.csv"

    def save(
        self,
        made: Figure | PaperTable | pd.DataFrame | str,
        name: str,
        note: str = "",
        **style: object,
    ) -> None:
        """Write what a cell shows, in the formats of its kind, and note it in `written`.

        Args:
            made: a figure (PNG if it shows images, else SVG and PDF); a table of the paper (CSV,
                Markdown, LaTeX, HTML); per-image values (CSV); any other table (CSV, Markdown; one
                without an index gets its leading columns of text as such); or a caption (Markdown).
            name: of the files, without suffix.
            note: what was measured on what; below a table.
            style: of a figure, see `paper.figures.save_figure`; one with ``outlines`` is a drawing
                that no data changes.
        """
        if isinstance(made, Figure):
            has_images = any(axis.images for axis in made.axes) and not style.get("outlines")
            folder = self.image_figures() if has_images else self.folder("figures", self.label)
            folder = self.folder("figures") if style.get("outlines") else folder
            formats = ("png",) if has_images else ("svg", "pdf")
            paths = save_figure(made, folder, name, formats, **style)
        elif isinstance(made, PaperTable):
            paths = write_paper_table(made, self.tables())
        elif isinstance(made, str):
            paths = write_texts(self.image_figures(), name, {"md": f"{made}\n"})
        elif set(evaluation.COLUMNS) <= set(made):
            paths = [evaluation.write_values(made, self.csv(name))]
        else:
            paths = write_table(_indexed(made), self.tables(), name, note)
        found = (path.relative_to(self.out_dir).as_posix() for path in paths)
        self.written.extend(path for path in found if path not in self.written)


def _indexed(frame: pd.DataFrame) -> pd.DataFrame:
    """With the leading columns of text as index, if it has none."""
    if not isinstance(frame.index, pd.RangeIndex) or frame.index.name:
        return frame
    is_text = [not pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    return frame.set_index(list(frame.columns[: [*is_text, False].index(False)]))


def open_run(
    preset: str = "quick",
    data_root: str | None = None,
    encoder: str = EMBEDDED,
    weights: str | None = None,
    out_dir: str = "runs/quick",
    device: str = "cpu",
    seed: int = 0,
) -> Run:
    """Check the parameters of a notebook and find its data.

    Args:
        preset: ``quick`` (at most 4 pairs of each part), ``cpu`` or ``paper`` (all).
        data_root: folder with the datasets; None for ``$FUSIONLIB_DATA`` or ``data/images``. If
            the latter has none of them, or for ``synthetic``, the drawn scenes of the repository.
        encoder: see `fusionlib.encoder.load_encoder`.
        weights: weights file; None for those trained in ``out_dir/train`` by ``cpu`` or ``paper``,
            else the shipped ones.
        out_dir: where everything goes.
        device: ``cpu``, ``cuda``, …
        seed: not negative.

    Raises:
        FusionError: unknown preset, bad seed, or no such weights.
        DatasetError: ``data_root`` or ``$FUSIONLIB_DATA`` was given but has none of the datasets.
    """
    if preset not in PRESETS:
        raise FusionError(f"preset {preset!r} is not known; one of {', '.join(PRESETS)}")
    if not isinstance(seed, int) or seed < 0:
        raise FusionError(f"seed {seed!r}: expected an integer, not negative")
    out = Path(out_dir).expanduser().resolve()
    root, parts = find_parts(data_root, QUICK_PAIRS if preset == "quick" else None)
    trained = out / "train" / "best.safetensors"
    use_trained = preset != "quick" and trained.is_file()  # quick only shows that training works
    chosen = Path(weights).expanduser() if weights else trained if use_trained else SHIPPED
    if not chosen.is_file():
        raise FusionError(f"weights {chosen}: no such file")
    return Run(preset, root, parts, encoder, chosen, out, device, seed)
