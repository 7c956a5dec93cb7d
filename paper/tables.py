"""Tables: means over images, and Tables 1 to 4 with reported numbers beside measured ones.

Exact as CSV; rounded, with the same texts and marks, as Markdown, LaTeX and HTML. What comes from
outside (names, notes) is escaped for each.
"""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from fusionlib.files import write_atomically
from fusionlib.metrics import METRICS, Metric
from fusionlib.statistics import LEVEL
from paper.reported import title_of

DECIMALS = {"qcv": 2}  # as the paper prints it; four of the others
CELLS = ["dataset", "n", "group", "method", "row", "metric", "value", "low", "high", "p"]
REPORTED, MEASURED, INTERVAL = "reported", "measured", "95 % interval"
PART, SAME = "measured in part", "ours, same pairs"  # of images of a part of the pairs
HEADINGS = {"related": "related methods, published images"}  # above a group
LABELS = ["dataset", "method", "row"]  # columns before n and the metrics
DAGGER = "†"  # significantly different from ours
# marks of a cell: the best three, rows that are not measured, intervals; classes in HTML
PLACES = ("", "place1", "place2", "place3")
MARKDOWN = {
    "": "{}", "place1": "**{}**", "place2": "<ins>{}</ins>", "place3": "*{}*",
    "reported": "<sub>{}</sub>", "interval": "<sub>{}</sub>",
}  # fmt: skip
LATEX = {  # commands, as Styler nests them
    "": "",
    "place1": "textcolor: [HTML]{C00000}--rwrap; textbf: --rwrap",
    "place2": "textcolor: [HTML]{0057B8}--rwrap; underline: --rwrap",
    "place3": "textcolor: [HTML]{1B7F3B}--rwrap; textit: --rwrap",
    "reported": "textcolor: [HTML]{777777}--rwrap",
    "interval": "tiny: --wrap",
}
STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }
table { border-collapse: collapse; border-bottom: 2px solid; border-top: 2px solid }
caption { text-align: left; padding: .6em 0 }
th, td { padding: .1em .7em; text-align: right; font-variant-numeric: tabular-nums }
th { font-weight: 600; border-bottom: 1px solid }
:is(th, td):nth-child(-n + 3) { text-align: left } td:nth-child(4) { white-space: nowrap }
.rule { border-top: 1px solid #999 } p { max-width: 70em; margin: .4em 0 }
.reported { color: #707070 } .interval { color: #666; font-size: 80% }
.place1 { color: #c00000; font-weight: bold } .place2 { color: #0057b8; text-decoration: underline }
.place3 { color: #1b7f3b; font-style: italic }
"""


def mean_table(frame: pd.DataFrame, methods: Sequence[str] | None = None) -> pd.DataFrame:
    """Mean of each metric over the images of a dataset, methods in rows.

    Args:
        frame: columns `fusionlib.evaluation.COLUMNS`.
        methods: order of the rows; by default that of their appearance.

    Returns:
        Index ``(dataset, n, method)``, a column for each metric. A mean over values of which one
        is missing is missing, too; ``attrs["undefined"]`` says why.

    Raises:
        ValueError: the methods were not measured on the same images.
    """
    for (dataset, metric), group in frame.groupby(["dataset", "metric"]):
        if group.groupby("method")["name"].agg(frozenset).nunique() > 1:
            raise ValueError(f"{dataset}, {metric}: the methods have values for different images")
    sizes = frame.groupby("dataset", sort=False)["name"].nunique()
    frame = frame.assign(n=frame["dataset"].map(sizes))
    grouped = frame.groupby(["dataset", "n", "method", "metric"], sort=False)
    means = grouped["value"].agg(lambda values: values.mean(skipna=False)).unstack("metric")
    order = [(d, n, m) for d, n in sizes.items() for m in methods or frame["method"].unique()]
    table = means.loc[[key for key in order if key in means.index], frame["metric"].unique()]
    table.attrs["undefined"] = []
    for (dataset, n, method, metric), group in grouped:
        if missing := int(group["value"].isna().sum()):
            why = "; ".join(sorted(set(group.get("reason", ())) - {""}))
            text = f"{dataset}, {method}, {metric}: {missing} of {n} values undefined"
            table.attrs["undefined"].append(f"{text} ({why})" if why else text)
    return table.rename_axis(columns=None)


def find_places(cells: pd.DataFrame, last: int = 3) -> pd.Series:
    """1, 2, 3 for the best of the cells of one dataset, metric and (if there are) kind of row.

    Args:
        cells: columns ``dataset, metric, value`` and perhaps ``row``.
        last: the last place that counts; 0 stands for the others.

    Returns:
        In the order of the cells. Equal values share the better place; a value that has no rival
        and a missing one get none.
    """
    is_lower = cells["metric"].map(lambda name: METRICS[name].direction == "lower")
    signed = cells["value"].where(~is_lower, -cells["value"])
    grouped = signed.groupby([cells[key] for key in ("dataset", "row", "metric") if key in cells])
    ranks = grouped.rank(method="min", ascending=False)
    return ranks.where((ranks <= last) & (grouped.transform("count") > 1), 0).astype(int)


def write_table(table: pd.DataFrame, folder: Path | str, name: str, note: str) -> list[Path]:
    """Write a table as CSV (exact) and as Markdown (rounded, titles, the best bold, its note).

    Args:
        table: from `mean_table`, or any other; its index becomes columns of text.
        folder: where.
        name: file name without suffix.
        note: what was measured on what, with which encoder and weights.
    """
    flat, shown = table.reset_index(), {}
    for column, cells in flat.items():
        title = METRICS[column].title if column in METRICS else escape_markdown(str(column))
        names = cells.map(title_of) if column in ("method", "rival") else cells
        texts = [_rounded(x, column) if isinstance(x, float) else escape_markdown(str(x))
                 for x in names]  # fmt: skip
        if column in METRICS and {"dataset", "method"} <= set(table.index.names):
            places = find_places(flat[["dataset"]].assign(metric=column, value=cells), last=1)
            texts = [
                f"**{text}**" if place else text for text, place in zip(texts, places, strict=True)
            ]
        shown[title] = texts
    markdown = f"{to_markdown(pd.DataFrame(shown), table.index.nlevels)}\n\n{note}\n"
    if undefined := table.attrs.get("undefined"):
        reasons = escape_markdown(". ".join(undefined))
        markdown += f"No mean where a value is undefined: {reasons}.\n"
    csv = flat.to_csv(index=False, lineterminator="\n")
    return write_texts(folder, name, {"csv": csv, "md": markdown})


def write_texts(folder: Path | str, name: str, texts: dict[str, str]) -> list[Path]:
    """Write ``<folder>/<name>.<suffix>`` for each suffix and its text."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = [Path(folder, f"{name}.{suffix}") for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_atomically(path, text.encode())
    return paths


def to_markdown(texts: pd.DataFrame, left: int) -> str:
    """A table of texts that are escaped already; all but the first columns are right-aligned."""
    align = ["left"] * left + ["right"] * (texts.shape[1] - left)
    return texts.to_markdown(index=False, disable_numparse=True, colalign=align)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]|<>&#~$])", r"\\\1", text).replace("\n", " ")


def _rounded(value: float, metric: str) -> str:
    return "–" if pd.isna(value) else f"{value:.{DECIMALS.get(metric, 4)}f}"


def count_leading(cells: pd.DataFrame, method: str, among: Sequence[str]) -> tuple[int, int]:
    """In how many measured cells a method is first or second, and of how many."""
    rivals = cells[(cells["row"] == MEASURED) & cells["method"].isin([method, *among])]
    places = find_places(rivals)[rivals["method"] == method]
    return int(places.isin([1, 2]).sum()), len(places)


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, ready to be written.

    Attributes:
        cells: columns `CELLS`, in the order of the rows; ``group`` changes where a rule is drawn.
        number: in the paper.
        caption: what it shows.
        titles: method → what the table calls it.
        notes: sentences below the table.
        places: how many of the best are marked.
    """

    cells: pd.DataFrame
    number: int
    caption: str
    titles: Mapping[str, str]
    notes: Sequence[str]
    places: int = 3

    def means(self) -> pd.DataFrame:
        """Exact values: one row a dataset, method and kind of row, a column a metric."""
        counts = self.cells.drop_duplicates(LABELS).set_index(LABELS)["n"].astype("Int64")
        wide = self.cells.pivot(index=LABELS, columns="metric", values="value")
        wide = wide.loc[counts.index, self.cells["metric"].unique()].rename_axis(columns=None)
        wide.insert(0, "n", counts)
        return wide

    def render(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
        """What all formats show, not yet escaped.

        Returns:
            Texts: columns `LABELS`, n and the metrics; a dataset or method only where it is new;
            n of a part as "n of N". A group of `HEADINGS` starts with a line of that text.
            Marks of the cells, see `MARKDOWN`. The rule above each row: ``dataset``, ``group`` or
            none.
        """
        columns = [*LABELS, "n", *self.cells["metric"].unique()]
        of_all = self.cells[self.cells["row"] == MEASURED].groupby("dataset")["n"].max()
        cells = self.cells.assign(place=find_places(self.cells, self.places).to_numpy())
        lines: list[tuple[dict[str, str], dict[str, str], str]] = []  # texts, marks, rule
        above = ("", "", "")  # dataset, group and method of the row above
        for key, row in cells.groupby(["dataset", "group", "method", "row"], sort=False):
            dataset, group, method, kind = key
            rule = "dataset" if dataset != above[0] else "group" if group != above[1] else ""
            is_new, above = key[:3] != above, key[:3]
            texts = {"dataset": dataset if rule == "dataset" else ""}
            if rule and group in HEADINGS:
                lines.append((texts | {"method": HEADINGS[group]}, {}, rule))
                texts, rule = {}, ""
            texts["method"] = self.titles.get(method, method) if is_new else ""
            texts["n"] = "" if row["n"].isna().all() else f"{row['n'].iloc[0]:.0f}"
            if kind == PART:
                texts["n"] += f" of {of_all[dataset]:.0f}"
            numbers, marks, interval = _row(kind, row)
            lines.append((texts | numbers, marks, rule))
            if interval:
                lines.append((interval, dict.fromkeys(interval, "interval"), ""))
        texts, marks, rules = zip(*lines, strict=True)
        frames = (pd.DataFrame(part, columns=columns).fillna("") for part in (texts, marks))
        return *frames, pd.Series(["", *rules[1:]])


def _row(kind: str, cells: pd.DataFrame) -> tuple[dict[str, str], ...]:
    """Texts and marks of a row, and the texts of the line with its intervals, by column."""
    aside = "" if kind in (MEASURED, PART) else "reported"
    texts, marks, interval = {"row": MEASURED if kind == PART else kind}, {"row": aside}, {}
    for cell in cells.itertuples():
        dagger = DAGGER if cell.p < LEVEL and pd.notna(cell.value) else ""
        texts[cell.metric] = _rounded(cell.value, cell.metric) + dagger
        place = 0 if kind in (PART, SAME) else cell.place  # those are of other images
        marks[cell.metric] = PLACES[place] or aside
        if pd.notna(cell.low):
            low, high = (_rounded(end, cell.metric) for end in (cell.low, cell.high))
            interval |= {"row": INTERVAL, cell.metric: f"{low}…{high}"}
    return texts, marks, interval


def _finish(
    texts: pd.DataFrame, escape: Callable[[str], str], title: Callable[[Metric], str]
) -> pd.DataFrame:
    """Texts with labels escaped and heads as they are shown."""
    heads = {"row": ""} | {name: title(METRICS[name]) for name in texts if name in METRICS}
    return texts.assign(**{name: texts[name].map(escape) for name in LABELS}).rename(columns=heads)


def write_paper_table(table: PaperTable, folder: Path | str) -> list[Path]:
    """Write ``table<number>`` as CSV (exact), Markdown, LaTeX (booktabs) and HTML."""
    csv = table.means().reset_index().to_csv(index=False, lineterminator="\n")
    texts = {"csv": csv, "md": as_markdown(table), "tex": as_latex(table), "html": as_html(table)}
    return write_texts(folder, f"table{table.number}", texts)


def as_markdown(table: PaperTable) -> str:
    """The table with its caption above and its notes below."""
    texts, marks, _ = table.render()
    texts = _finish(texts, escape_markdown, lambda metric: metric.title)
    for head, column in zip(texts, marks, strict=True):
        pairs = zip(marks[column], texts[head], strict=True)
        texts[head] = [MARKDOWN[mark].format(text) for mark, text in pairs]
    caption, *notes = map(escape_markdown, (table.caption, *table.notes))
    parts = [f"Table {table.number}. {caption}", to_markdown(texts, len(LABELS)), *notes]
    return "\n\n".join(parts) + "\n"


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    special = {c: rf"\{c}" for c in "&%$#_{}"} | {"\n": " ", "\\": r"\textbackslash{}"}
    special |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
    special |= {"<": r"\textless{}", ">": r"\textgreater{}"}
    return text.translate(str.maketrans(special))


def as_latex(table: PaperTable) -> str:
    """A ``table*`` environment, for the packages booktabs and xcolor."""
    texts, marks, rules = table.render()
    arrows = {"higher": r"\uparrow", "lower": r"\downarrow"}
    texts = _finish(texts, escape_latex, lambda m: f"${m.latex}{arrows[m.direction]}$")
    left, width = len(LABELS), texts.shape[1]
    numbers = texts.columns[left:]
    texts[numbers] = texts[numbers].replace(DAGGER, r"\\rlap{$^{\\dagger}$}", regex=True)
    commands = marks.map(LATEX.__getitem__).set_axis(texts.columns, axis=1)
    lines = {"dataset": "midrule: --nowrap", "group": f"cmidrule: (l){{2-{width}}}--nowrap"}
    commands["dataset"] = [lines.get(rule, "") for rule in rules]
    styler = Styler(texts).hide(axis="index").apply(lambda _: commands, axis=None)
    tabular = styler.to_latex(column_format="l" * left + "r" * (width - left), hrules=True)
    notes = "\n".join(rf"\par\smallskip\raggedright {escape_latex(n)}" for n in table.notes)
    return rf"""% needs the packages booktabs and xcolor
\begin{{table*}}[t]
\centering\scriptsize\setlength{{\tabcolsep}}{{4pt}}
\caption{{{escape_latex(table.caption)}}}
\label{{tab:{table.number}}}
{tabular}{notes}
\end{{table*}}
"""


def as_html(table: PaperTable) -> str:
    """A page of its own, without anything from elsewhere."""
    texts, marks, rules = table.render()
    texts = _finish(texts, html.escape, lambda metric: html.escape(metric.title))
    marks.loc[rules != ""] += " rule"
    styler = Styler(texts, uuid=str(table.number), cell_ids=False).hide(axis="index")
    styler = styler.set_td_classes(marks.set_axis(texts.columns, axis=1))
    caption, *notes = map(html.escape, (table.caption, *table.notes))
    body = styler.set_caption(f"Table {table.number}. {caption}").to_html()
    paragraphs = "\n".join(f"<p>{note}</p>" for note in notes)
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Table {table.number}</title><style>{STYLE}</style></head>
<body>
{body[body.index("<table") :]}{paragraphs}
</body>
</html>
"""
