"""The report: one page that sums a run up, and every executed notebook as a page beside it.

Pages hold their style, script and pictures, or have them beside them; nothing is ever asked from
another machine, so formulas are MathML instead of MathJax, and widgets are left out.
"""

import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import latex2mathml.converter
import nbformat
import numpy as np
import pandas as pd
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from fusionlib.datasets import load_pair
from fusionlib.files import write_atomically
from fusionlib.images import is_grey, read_luma8, replace_luma, save_image
from fusionlib.metrics import METRICS
from fusionlib.weights import load_weights
from paper.claims import VERDICTS
from paper.run import Run
from paper.verdicts import UNMEASURED

TEMPLATES = Path(__file__).parent / "templates"
KINDS = ("reproduced", "partly", "not", "not", "untestable", "untestable")  # of VERDICTS, in CSS
LOOKS = ("infrared", "visible", "fused")
PAIRS = 6  # in the slider
TABLES = {
    "verdict": "In how many cells ours reaches the paper",
    "claims": "Claim by claim",
    "numbers": "The paper's numbers beside ours",
    "relative": "The lead over rivals, in the paper and here",
    "table1": "Table 1",
    "table2": "Table 2",
    "table3": "Table 3: a dataset never trained on",
    "table4": "Table 4: ablation",
    "encoder": "Beyond the paper: other features in place of the encoder's",
}
FIGURES = {
    "fig4": "Figure 4: sources, other methods, ours",
    "fig5": "Figure 5: sources, other methods, ours",
    "fig6": "Figure 6: a dataset never trained on",
    "teaser": "Infrared, visible, fused",
}
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class ShownTable:
    """A table as text; ``numeric`` says which columns sort by value."""

    name: str
    title: str
    columns: list[str]
    numeric: list[bool]
    rows: list[list[str]]


def write_report(run: Run, steps: Iterable) -> Path:
    """Write ``index.html``, a page a notebook, and the pictures they show.

    Args:
        run: the run, whose notebooks were executed.
        steps: `paper.pipeline.Step` of each notebook that gets a page.

    Returns:
        Path of ``index.html`` in ``report`` below ``run.out_dir``; what was there is replaced.
    """
    folder = run.out_dir / "report"
    growing = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(parents=True)
    try:
        steps = sorted(steps, key=lambda step: step.name)
        for step in steps:
            page = notebook_page(nbformat.read(step.output, as_version=4), step.name)
            write_atomically(growing / f"{step.name}.html", page.encode())
        page = _environment().get_template("report.html").render(_content(run, steps, growing))
        write_atomically(growing / "index.html", page.encode())
        shutil.rmtree(folder, ignore_errors=True)
        growing.rename(folder)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return folder / "index.html"


def notebook_page(notebook: NotebookNode, name: str) -> str:
    """An executed notebook as HTML that needs nothing else."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:  # progress bars, sliders: nbconvert would load their script
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]
    exporter = HTMLExporter(template_name="basic", exclude_anchor_links=True)
    exporter.register_filter("markdown2html", _markdown)
    body, _ = exporter.from_notebook_node(notebook)
    return (
        _environment().get_template("notebook.html").render(name=name, body=body, highlight=_code())
    )


class MathRenderer(IPythonRenderer):
    """Markdown with formulas as MathML, which browsers draw without any script."""

    def block_math(self, body: str) -> str:
        """A displayed formula."""
        return _mathml(body, "block")

    def inline_math(self, body: str) -> str:
        """A formula in a line."""
        return _mathml(body, "inline")


def _markdown(source: str) -> str:
    return MarkdownWithMath(MathRenderer(escape=False, exclude_anchor_links=True)).render(source)


def _mathml(latex: str, display: str) -> str:
    tag = re.search(r"\\tag\{(.*?)\}", latex)
    latex = re.sub(r"\\tag\{.*?\}", "", latex).strip()
    latex += rf"\qquad ({tag.group(1)})" if tag else ""
    return latex2mathml.converter.convert(latex, display=display)


def _code() -> str:
    """Colours of code, on light and on dark ground."""
    light, dark = (
        HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("xcode", "monokai")
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"


def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)


def _content(run: Run, steps: Sequence, folder: Path) -> dict[str, object]:
    weights = load_weights(run.weights)
    shown = [read_table(run.tables() / f"{name}.csv", title) for name, title in TABLES.items()
             if (run.tables() / f"{name}.csv").is_file()]  # fmt: skip
    shown = [t for t in shown if t.name not in ("numbers", "relative") or not _is_unmeasured(t)]
    figure = next((n for n in FIGURES if (run.image_figures() / f"{n}.png").is_file()), None)
    if figure:
        shutil.copy(run.image_figures() / f"{figure}.png", folder / "figure.png")
    seconds = [_seconds(step) for step in steps]
    total = sum(s for s in seconds if s is not None)
    return {
        "data": run.data_title,
        "encoder": weights.encoder_title,
        "weights": f"{run.weights.name}, {weights.steps} steps, sha256 {weights.sha256[:12]}",
        "preset": run.preset,
        "is_synthetic": run.is_synthetic,
        "kinds": dict(zip(VERDICTS, KINDS, strict=True)),
        "counts": _count_verdicts(shown),
        "tables": shown,
        "looks": LOOKS,
        "pairs": _write_pairs(run, folder),
        "figure": "figure.png" if figure else None,
        "figure_title": FIGURES.get(figure, ""),
        "steps": [
            {"name": step.name, "file": f"{step.name}.html", "seconds": _number(s, 1)}
            for step, s in zip(steps, seconds, strict=True)
        ],
        "total": f"{total / 60:.0f} min" if total >= 90 else f"{total:.0f} s",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
    }


def _seconds(step: object) -> float | None:
    """How long a notebook took when it ran, also if that was in an earlier run."""
    try:
        record = json.loads(step.output.with_suffix(".json").read_text(encoding="utf-8"))
        return float(record["seconds"])
    except (OSError, ValueError, KeyError):
        return None


def read_table(path: Path, title: str) -> ShownTable:
    """A CSV as text: numbers with up to four decimals, an empty cell as a dash."""
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    numeric = [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes]
    decimals = [0 if frame[c].dropna().mod(1).eq(0).all() else 4 if n else 0
                for c, n in zip(frame, numeric, strict=True) if n]  # fmt: skip
    places = iter(decimals)
    columns = [next(places) if n else None for n in numeric]
    rows = [
        [_number(v, d) if d is not None else "–" if pd.isna(v) else str(v)
         for v, d in zip(row, columns, strict=True)]
        for row in frame.itertuples(index=False)
    ]  # fmt: skip
    titles = [METRICS[c].title if c in METRICS else str(c) for c in frame.columns]
    return ShownTable(path.stem, title, titles, numeric, rows)


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.{decimals}f}"


def _is_unmeasured(table: ShownTable) -> bool:
    """Whether there is nothing to see, as on the synthetic scenes."""
    return all(UNMEASURED in row for row in table.rows)


def _count_verdicts(tables: Sequence[ShownTable]) -> dict[str, int]:
    """Verdict → number of claims, of those that occur."""
    rows = [cell for t in tables if t.name == "claims" for row in t.rows for cell in row]
    counts = {verdict: rows.count(verdict) for verdict in VERDICTS}
    return {verdict: count for verdict, count in counts.items() if count}


def _write_pairs(run: Run, folder: Path) -> list[dict]:
    """Sources and fused image of a few test pairs, for the slider; in turn from each dataset."""
    found = []
    by_dataset = [parts["test"] for parts in run.parts.values()]
    longest = max((len(pairs) for pairs in by_dataset), default=0)
    for pair in (pairs[i] for i in range(longest) for pairs in by_dataset if i < len(pairs)):
        fused = run.out_dir / "results" / "ours" / pair.dataset / f"{pair.name}.png"
        if len(found) == PAIRS or not fused.is_file():
            continue
        ir, vi = load_pair(pair)
        y = read_luma8(fused).astype(np.float32) / 255
        images = (ir, vi, y if is_grey(vi) else replace_luma(vi, y))
        files = {look: f"images/{len(found)}_{look}.png" for look in LOOKS}
        for look, image in zip(LOOKS, images, strict=True):
            save_image(folder / files[look], image)
        found.append({"title": f"{pair.dataset} {pair.name}", "files": files})
    return found
