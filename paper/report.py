"""The report: one page that sums a run up, and every executed notebook as a page beside it.

Pages hold their style, script and pictures, or have them beside them; nothing is ever asked from
another machine, so formulas are MathML instead of MathJax, and widgets are left out.
"""

import datetime
import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

import jinja2
import latex2mathml.converter
import nbformat
import numpy as np
import pandas as pd
import torch
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors import TagRemovePreprocessor
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from fusionlib.datasets import load_pair
from fusionlib.files import REPOSITORY, write_atomically
from fusionlib.images import is_grey, read_luma8, replace_luma, save_image
from fusionlib.metrics import METRICS
from fusionlib.versions import commit, processor
from fusionlib.weights import load_weights
from paper.pipeline import read_json
from paper.reported import LETTER, OURS, PAPER_TABLES
from paper.run import Run
from paper.teaching import WIDGET

TEMPLATES = Path(__file__).parent / "templates"
REFERENCE = REPOSITORY / "tables" / "reference"
VERDICTS = ("verdict", "numbers", "relative", "claims")  # what 08_report writes
SHOWN = {OURS: "ours", LETTER: "ours, to the letter", "SeAFusion": "SeAFusion",
         "maximum": "maximum of the two images", "laplacian": "Laplacian pyramid"}  # fmt: skip
KINDS = {"exceeds": "▲", "agrees": "=", "falls short": "▼", "not measured": "–"}
PAIRS = 6  # in the slider
HIDDEN = {"injected-parameters", "solution"}  # tags of cells that a page leaves out


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
    with TemporaryDirectory(dir=run.out_dir, prefix=".report-") as work:
        growing = Path(work) / "report"
        growing.mkdir()
        for step in steps:
            page = notebook_page(nbformat.read(step.output, as_version=4), step.name)
            write_atomically(growing / f"{step.name}.html", page.encode())
        page = _render("report.html", agreement=agreement, **_content(run, steps, growing))
        write_atomically(growing / "index.html", page.encode())
        shutil.rmtree(folder, ignore_errors=True)
        growing.rename(folder)
    return folder / "index.html"


def read_verdict(folder: Path) -> dict[str, object]:
    """What 08_report found on the paper's numbers, leads and claims.

    Args:
        folder: of the tables.

    Returns:
        Empty if a table is missing or none of the paper's datasets was measured. Else ``sentence``
        (on the paper's numbers), ``counts`` (a row a method), ``numbers`` and ``leads`` (see
        `_grid`), ``rivals``, ``claims`` (claim → row) and ``images`` (dataset → how many).
    """
    paths = [folder / f"{name}.csv" for name in VERDICTS]
    if not all(path.is_file() for path in paths):
        return {}
    counts, numbers, leads, claims = map(pd.read_csv, paths)
    numbers, leads = (frame.query("method == @OURS and n > 0") for frame in (numbers, leads))
    if numbers.empty:
        return {}
    counts = counts[counts["against"] == counts["against"].iloc[0]].set_index("method")
    counts = counts.loc[[name for name in SHOWN if name in counts.index]].rename(SHOWN)
    outcomes = {name: row[list(KINDS)[:3]] for name, row in counts.iterrows()}
    sentence = "of the paper's {} numbers ours exceeds {}, agrees with {} and falls short of {}"
    sentence = sentence.format(counts.loc["ours", "cells"], *outcomes["ours"])
    for name in (SHOWN[LETTER], SHOWN["maximum"]):
        if name in outcomes:
            sentence += "; {}: {}, {} and {}".format(name, *outcomes[name])
    return {
        "sentence": sentence,
        "counts": counts.to_dict("index"),
        "numbers": _grid(numbers, ["dataset"]),
        "leads": _grid(leads, ["rival", "dataset"], "%.2f"),
        "rivals": " and ".join(leads["rival"].unique()),
        "claims": {row["claim"]: row for row in claims.fillna("–").to_dict("records")},
        "images": numbers.groupby("dataset")["n"].first().to_dict(),
    }


def _grid(judged: pd.DataFrame, heads: list[str], digits: str = "%#.4g") -> dict[str, object]:
    """Judged numbers as the paper lays them out; a cell has ours, the paper's and the verdict."""
    texts = judged.assign(here=judged["here"].map(digits.__mod__),
                          paper=judged["paper"].map(digits.__mod__))  # fmt: skip
    texts["kind"] = texts["verdict"].str.replace(" ", "-")
    texts["sign"] = texts["verdict"].map(KINDS)
    rows = {head: group.to_dict("records") for head, group in texts.groupby(heads, sort=False)}
    return {"columns": [METRICS[name].title for name in texts["metric"].unique()], "rows": rows}


def notebook_page(notebook: NotebookNode, name: str) -> str:
    """An executed notebook as HTML that needs nothing else, without scaffolding and solutions."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:  # progress bars, sliders: nbconvert would load their script
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]
    hide = TagRemovePreprocessor(
        remove_input_tags={"hide-input"}, remove_cell_tags=HIDDEN, enabled=True
    )
    exporter = HTMLExporter(template_name="basic", exclude_anchor_links=True, preprocessors=[hide])
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
    weights, reference = load_weights(run.weights), read_verdict(REFERENCE)
    here = {} if run.is_synthetic else read_verdict(run.tables())
    committed = read_json(REFERENCE / "provenance.json").get("steps", {}).get("05_compare", {})
    return {
        "reference": reference,
        "committed": committed,
        "reference_encoder": load_weights().encoder_title,
        "here": here,
        "claims": here or reference,
        "run": run,
        "encoder": weights.encoder_title,
        "weights": f"{run.weights.name}, {weights.steps} steps, sha256 {weights.sha256[:12]}",
        "kinds": KINDS,
        "pairs": _write_pairs(run, folder),
        "figures": list(_copy_figures(run, folder)),
        "reference_tables": dict(_read_tables(REFERENCE)),
        "tables": dict(_read_tables(run.tables())),
        "steps": steps,
        "environment": _environment(run, sum(step.seconds for step in steps)),
    }


def _environment(run: Run, seconds: float) -> dict[str, str]:
    """Where, when and with what a report was made."""
    return {
        "processor": f"{processor(run.device)}, {os.cpu_count()} cores, {torch.get_num_threads()} "
        f"threads, {platform.system()} {platform.machine()}",
        "software": f"Python {platform.python_version()}, PyTorch {torch.__version__}, "
        f"NumPy {np.__version__}, pandas {pd.__version__}",
        "commit": commit() or "unknown (not a git checkout)",
        "written": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "parameters": f"preset {run.preset}, device {run.device}, seed {run.seed}",
        "time": f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s",
    }


def _copy_figures(run: Run, folder: Path) -> Iterator[dict[str, str]]:
    """The paper's figures: those of the run, else the committed ones, which show drawn scenes."""
    committed = (REPOSITORY / "figures" / "synthetic", REPOSITORY / "figures")
    places = (run.image_figures(), run.out_dir / "figures", *committed)
    for figure in pd.read_csv(PAPER_TABLES / "figures.csv", dtype=str).to_dict("records"):
        name = f"fig{figure['figure']}"
        found = [path for place in places for path in sorted(place.glob(f"{name}[._]*[vn]g"))]
        if not found:
            continue
        path, caption, note = found[0], found[0].with_suffix(".md"), ""
        shutil.copy(path, folder / path.name)
        if path.suffix == ".png":  # diagrams show no data
            note = "Drawn scenes." if run.is_synthetic else ""
            note = "The committed figure, of drawn scenes." if path.parent in committed else note
        text = caption.read_text("utf-8").partition(". ")[2] if caption.is_file() else ""
        claims = figure["claims"].split("; ")
        yield figure | {"file": path.name, "caption": text, "note": note, "claims": claims}


def _read_tables(folder: Path) -> Iterator[tuple[str, Markup]]:
    """Tables 1 to 4 as they were written, with colours, intervals and marks."""
    for path in sorted(folder.glob("table?.html")):
        body = re.search(r"(<table.*)</body>", path.read_text("utf-8"), re.S)[1]
        yield f"Table {path.stem[-1]}", Markup(re.sub(r'(<table) id="\w+"', r"\1", body))


def _write_pairs(run: Run, folder: Path) -> list[dict]:
    """Sources and fused image of a few test pairs, for the slider; in turn from each dataset."""
    by_dataset = zip_longest(*(parts["test"] for parts in run.parts.values()))
    results, found = run.out_dir / "results" / "ours", []
    for pair in filter(None, chain.from_iterable(by_dataset)):
        fused = results / pair.dataset / f"{pair.name}.png"
        if len(found) == PAIRS or not fused.is_file():
            continue
        ir, vi = load_pair(pair)
        y = read_luma8(fused).astype(np.float32) / 255
        images = {"infrared": ir, "visible": vi, "fused": y if is_grey(vi) else replace_luma(vi, y)}
        files = {look: f"images/{len(found)}_{look}.png" for look in images}
        for look, image in images.items():
            save_image(folder / files[look], image)
        found.append({"title": f"{pair.dataset} {pair.name}", "files": files})
    return found
