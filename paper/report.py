"""The report: one page that sums a run up, and every executed notebook as a page beside it.

Pages hold their style, script and pictures, or have them beside them; nothing is ever asked from
another machine, so formulas are MathML instead of MathJax, and widgets are left out.
"""

import os
import platform
import re
import shutil
from collections.abc import Sequence
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
from fusionlib.files import REPOSITORY, write_atomically
from fusionlib.images import is_grey, read_luma8, replace_luma, save_image
from fusionlib.metrics import METRICS
from fusionlib.weights import load_weights
from paper.claims import UNMEASURED, VERDICTS
from paper.reported import LETTER, OURS
from paper.run import Run
from paper.teaching import WIDGET

TEMPLATES = Path(__file__).parent / "templates"
KINDS = ("reproduced", "partly", "not", "not", "untestable", "untestable")  # of VERDICTS, in CSS
REFERENCE = REPOSITORY / "tables" / "reference"
SHOWN = {OURS: "ours", LETTER: "ours, to the letter", "maximum": "the maximum of the two images"}
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


def write_report(run: Run, steps: Sequence, agreement: Sequence[str] = ()) -> Path:
    """Write ``index.html``, a page a notebook, and the pictures they show.

    Args:
        run: the run, whose notebooks were executed.
        steps: `paper.pipeline.Step` of each notebook that gets a page, in order.
        agreement: sentences on the committed results, from `paper.agreement`.

    Returns:
        Path of ``index.html`` in ``report`` below ``run.out_dir``; what was there is replaced.
    """
    folder = run.out_dir / "report"
    growing = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(parents=True)
    try:
        for step in steps:
            page = notebook_page(nbformat.read(step.output, as_version=4), step.name)
            write_atomically(growing / f"{step.name}.html", page.encode())
        page = _render("report.html", agreement=agreement, **_content(run, steps, growing))
        write_atomically(growing / "index.html", page.encode())
        shutil.rmtree(folder, ignore_errors=True)
        growing.rename(folder)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return folder / "index.html"


def reference_verdict() -> tuple[list[str], pd.DataFrame]:
    """What the committed run on all test pairs found, whatever a run on this machine has.

    Returns:
        Sentences on the numbers of `SHOWN`, the claims and the encoder; and the paper's 30 cells:
        rows are datasets, columns titles of metrics, cells ``(ours, the paper's, verdict)``. Both
        empty outside of a checkout.
    """
    if not (REFERENCE / "numbers.csv").is_file():
        return [], pd.DataFrame()
    counts = pd.read_csv(REFERENCE / "verdict.csv").set_index("method", drop=False)
    counts = counts[counts["against"] == counts["against"].iloc[0]]
    kinds = ["exceeds", "agrees", "falls short"]
    found = {title: counts.loc[name, kinds].tolist() for name, title in SHOWN.items()}
    (ours, (more, equal, less)), *others = found.items()
    numbers = f"of the paper's {counts.loc[OURS, 'cells']} numbers {ours} exceeds {more}, agrees "
    numbers += f"with {equal} and falls short of {less}"
    for title, (more, equal, less) in others:
        numbers += f"; {title}: {more}, {equal} and {less}"
    claims = pd.read_csv(REFERENCE / "claims.csv")["verdict"].value_counts()
    said = ", ".join(f"{claims[verdict]} {verdict}" for verdict in VERDICTS if verdict in claims)
    sentences = [numbers, f"of {claims.sum()} claims in the paper's text: {said}"]
    sentences.append(f"encoder: {load_weights().encoder_title}")
    cells = pd.read_csv(REFERENCE / "numbers.csv").query("method == @OURS")
    cells["metric"] = [METRICS[name].title for name in cells["metric"]]
    cells["cell"] = list(zip(cells["here"], cells["paper"], cells["verdict"], strict=True))
    order = dict(index=cells["dataset"].unique(), columns=cells["metric"].unique())
    return sentences, cells.pivot(index="dataset", columns="metric", values="cell").reindex(**order)


def notebook_page(notebook: NotebookNode, name: str) -> str:
    """An executed notebook as HTML that needs nothing else."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:  # progress bars, sliders: nbconvert would load their script
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]
    exporter = HTMLExporter(template_name="basic", exclude_anchor_links=True)
    exporter.register_filter("markdown2html", _markdown)
    body, _ = exporter.from_notebook_node(notebook)
    colours = HtmlFormatter(style="xcode").get_style_defs(".highlight")
    return _render("notebook.html", name=name, body=body, highlight=colours)


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


def _render(template: str, **content: object) -> str:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    pages = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return pages.get_template(template).render(content)


def _content(run: Run, steps: Sequence, folder: Path) -> dict[str, object]:
    weights = load_weights(run.weights)
    tables = [read_table(run.tables() / f"{name}.csv", title) for name, title in TABLES.items()
              if (run.tables() / f"{name}.csv").is_file()]  # fmt: skip
    # on the synthetic scenes there is nothing to see in these
    tables = [table for table in tables if table["name"] not in ("numbers", "relative")
              or not all(UNMEASURED in row for row in table["rows"])]  # fmt: skip
    verdicts = [cell for t in tables if t["name"] == "claims" for row in t["rows"] for cell in row]
    counts = {verdict: verdicts.count(verdict) for verdict in VERDICTS}
    figure = next((n for n in FIGURES if (run.image_figures() / f"{n}.png").is_file()), None)
    if figure:
        shutil.copy(run.image_figures() / f"{figure}.png", folder / "figure.png")
    total = sum(step.seconds for step in steps)
    sentences, grid = reference_verdict()
    return {
        "sentences": sentences,
        "grid": grid,
        "data": run.data_title,
        "encoder": weights.encoder_title,
        "weights": f"{run.weights.name}, {weights.steps} steps, sha256 {weights.sha256[:12]}",
        "preset": run.preset,
        "is_synthetic": run.is_synthetic,
        "kinds": dict(zip(VERDICTS, KINDS, strict=True)),
        "counts": {verdict: count for verdict, count in counts.items() if count},
        "tables": tables,
        "looks": LOOKS,
        "pairs": _write_pairs(run, folder),
        "figure_title": FIGURES.get(figure),
        "steps": steps,
        "total": f"{total / 60:.0f} min" if total >= 90 else f"{total:.0f} s",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
    }


def read_table(path: Path, title: str) -> dict[str, object]:
    """A CSV as text: numbers with up to four decimals, an empty cell as a dash."""
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    return {
        "name": path.stem,
        "title": title,
        "columns": [METRICS[c].title if c in METRICS else str(c) for c in frame.columns],
        "numeric": [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes],
        "rows": list(zip(*(_as_text(frame[c]) for c in frame.columns), strict=True)),
    }


def _as_text(column: pd.Series) -> list[str]:
    if not pd.api.types.is_numeric_dtype(column):
        return column.astype(object).fillna("–").astype(str).tolist()
    decimals = 0 if column.dropna().mod(1).eq(0).all() else 4
    return ["–" if pd.isna(value) else f"{value:.{decimals}f}" for value in column]


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
