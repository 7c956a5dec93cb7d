"""Tables 1 to 4: measured means beside reported numbers, as CSV, Markdown, LaTeX and HTML.

All four are written from one table of cells, so that they cannot differ; what comes from outside
(names of methods and datasets, notes) is escaped for each of them.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fusionlib.files import write_atomically
from fusionlib.metrics import METRICS
from fusionlib.statistics import LEVEL
from paper.tables import DECIMALS, escape_markdown

CELLS = ["dataset", "n", "group", "method", "row", "metric", "value", "low", "high", "p"]
REPORTED, MEASURED = "reported", "measured"
COLOURS = ("C00000", "0057B8", "1B7F3B")  # of the first, second and third place
TEXTS = 3  # columns before the numbers
MARK = "†"  # significantly different from ours
STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }
table { border-collapse: collapse; border-bottom: 2px solid; border-top: 2px solid }
caption { text-align: left; padding: .6em 0 }
th, td { padding: .15em .7em; text-align: right; vertical-align: top }
th { font-weight: 600; border-bottom: 1px solid }
td { font-variant-numeric: tabular-nums }
:is(th, td):nth-child(-n + 3) { text-align: left }
.rule td { border-top: 1px solid #999 }
small { display: block; color: #666 } sup { line-height: 0 } .reported { color: #707070 }
.place1 { color: #c00000; font-weight: bold } .place2 { color: #0057b8; text-decoration: underline }
.place3 { color: #1b7f3b; font-style: italic } p { max-width: 70em; margin: .4em 0 }
"""


def find_places(cells: pd.DataFrame, last: int = 3) -> pd.Series:
    """1, 2, 3 for the best of the cells of one dataset, kind of row and metric; else 0.

    Args:
        cells: columns `CELLS`.
        last: the last place that counts.

    Returns:
        In the order of the cells. Equal values share the better place; a value that has no rival
        and a missing one get none.
    """
    is_lower = cells["metric"].map(lambda name: METRICS[name].direction == "lower")
    signed = cells["value"].where(~is_lower, -cells["value"])
    grouped = signed.groupby([cells[key] for key in ("dataset", "row", "metric")])
    ranks = grouped.rank(method="min", ascending=False)
    return ranks.where((ranks <= last) & (grouped.transform("count") > 1), 0).astype(int)


def count_leading(cells: pd.DataFrame, method: str, among: Sequence[str]) -> tuple[int, int]:
    """In how many measured cells a method is first or second, and of how many."""
    rivals = cells[(cells["row"] == MEASURED) & cells["method"].isin([method, *among])]
    places = find_places(rivals)[rivals["method"] == method]
    return int(places.isin([1, 2]).sum()), len(places)


@dataclass(frozen=True)
class Markup:
    """How one kind of file writes a cell."""

    escape: Callable[[str], str]
    places: tuple[str, str, str]  # around the first, second and third
    reported: str
    interval: str  # of value, lower and upper end
    mark: str
    metric: Callable[[str], str]


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is."""
    special = {c: rf"\{c}" for c in "&%$#_{}"} | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "\n": " ",
    }
    return "".join(special.get(c, c) for c in text)


def _latex_metric(name: str) -> str:
    arrow = r"\uparrow" if METRICS[name].direction == "higher" else r"\downarrow"
    return rf"${METRICS[name].latex}{arrow}$"


_COLOURED = r"\textcolor[HTML]{%s}{%s}"
MARKDOWN = Markup(
    escape_markdown,
    ("**%s**", "<ins>%s</ins>", "*%s*"),
    "<sub>%s</sub>",
    "%s<br><sub>%s…%s</sub>",
    MARK,
    lambda name: METRICS[name].title,
)
LATEX = Markup(
    escape_latex,
    tuple(
        _COLOURED % (colour, look)
        for colour, look in zip(
            COLOURS, (r"\textbf{%s}", r"\underline{%s}", r"\textit{%s}"), strict=True
        )
    ),
    _COLOURED % ("777777", "%s"),
    r"\begin{tabular}[t]{@{}r@{}}%s\\[-2pt]{\tiny %s\,--\,%s}\end{tabular}",
    r"\rlap{$^{\dagger}$}",
    _latex_metric,
)
HTML = Markup(
    html.escape,
    tuple(f'<span class="place{i}">%s</span>' for i in (1, 2, 3)),
    '<span class="reported">%s</span>',
    "%s<small>%s…%s</small>",
    f"<sup>{MARK}</sup>",
    lambda name: html.escape(METRICS[name].title),
)


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
        index = ["dataset", "method", "row"]
        metrics = list(dict.fromkeys(self.cells["metric"]))
        counts = self.cells.drop_duplicates(index).set_index(index)["n"].astype("Int64")
        wide = self.cells.set_index([*index, "metric"])["value"].unstack("metric")[metrics]
        wide = wide.loc[counts.index].rename_axis(columns=None)
        wide.insert(0, "n", counts)
        return wide

    def render(self, markup: Markup) -> pd.DataFrame:
        """Text of every cell, escaped; a dataset or method stands only where it is new."""
        rows = {}
        for cell in self.cells.assign(place=find_places(self.cells, self.places)).itertuples():
            row = rows.setdefault((cell.dataset, cell.method, cell.row), {})
            name = self.titles.get(cell.method, cell.method)
            row["dataset"], row["method"] = markup.escape(cell.dataset), markup.escape(name)
            row[""] = cell.row if cell.row == MEASURED else markup.reported % cell.row
            row["n"] = "" if pd.isna(cell.n) else str(int(cell.n))
            row[markup.metric(cell.metric)] = _text(cell, markup)
        frame = pd.DataFrame(rows.values())
        is_new = frame[["dataset", "method"]].ne(frame[["dataset", "method"]].shift())
        is_new["method"] |= is_new["dataset"]
        return frame.assign(**{name: frame[name].where(is_new[name], "") for name in is_new})

    def rules(self) -> list[int]:
        """Rows above which a line separates groups of methods, or datasets."""
        rows = self.cells.drop_duplicates(["dataset", "method", "row"])
        keys = list(zip(rows["dataset"], rows["group"], strict=True))
        return [i for i in range(1, len(keys)) if keys[i] != keys[i - 1]]


def _text(cell, markup: Markup) -> str:
    if pd.isna(cell.value):
        return "–" if cell.row == MEASURED else markup.reported % "–"
    places = DECIMALS.get(cell.metric, 4)
    value, low, high = (f"{x:.{places}f}" for x in (cell.value, cell.low, cell.high))
    text = markup.places[cell.place - 1] % value if cell.place else value
    if cell.row == REPORTED:
        return text if cell.place else markup.reported % text
    text += markup.mark if cell.p < LEVEL else ""
    return text if pd.isna(cell.low) else markup.interval % (text, low, high)


def write_paper_table(table: PaperTable, folder: Path | str) -> list[Path]:
    """Write ``table<number>`` as CSV (exact), Markdown, LaTeX (booktabs) and HTML."""
    folder, name = Path(folder), f"table{table.number}"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "csv": table.means().reset_index().to_csv(index=False, lineterminator="\n"),
        "md": to_markdown(table),
        "tex": to_latex(table),
        "html": to_html(table),
    }
    for suffix, text in content.items():
        write_atomically(folder / f"{name}.{suffix}", text.encode())
    return [folder / f"{name}.{suffix}" for suffix in content]


def to_markdown(table: PaperTable) -> str:
    """The table with its caption above and its notes below."""
    frame = table.render(MARKDOWN)
    lines = [f"Table {table.number}. {escape_markdown(table.caption)}", "", _line(frame.columns)]
    lines.append("|" + "|".join([" --- "] * TEXTS + [" ---: "] * (frame.shape[1] - TEXTS)) + "|")
    lines += [_line(row) for row in frame.itertuples(index=False)]
    lines += [part for note in table.notes for part in ("", escape_markdown(note))]
    return "\n".join([*lines, ""])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def to_latex(table: PaperTable) -> str:
    """A ``table*`` environment, for the packages booktabs and xcolor."""
    frame = table.render(LATEX)
    body = [" & ".join(row) + r" \\" for row in frame.itertuples(index=False)]
    for row in reversed(table.rules()):
        is_dataset = bool(frame["dataset"][row])
        body.insert(row, r"\midrule" if is_dataset else rf"\cmidrule(l){{2-{frame.shape[1]}}}")
    lines = [
        "% needs the packages booktabs and xcolor",
        r"\begin{table*}[t]",
        r"\centering\scriptsize\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\label{{tab:{table.number}}}",
        rf"\begin{{tabular}}{{{'l' * TEXTS}{'r' * (frame.shape[1] - TEXTS)}}}",
        r"\toprule",
        " & ".join(frame.columns) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip\raggedright {escape_latex(note)}" for note in table.notes),
        r"\end{table*}",
    ]
    return "\n".join([*lines, ""])


def to_html(table: PaperTable) -> str:
    """A page of its own, without anything from elsewhere."""
    frame, rules = table.render(HTML), table.rules()
    head = "".join(f"<th>{title}</th>" for title in frame.columns)
    rows = "\n".join(
        ('<tr class="rule">' if i in rules else "<tr>")
        + "".join(f"<td>{cell}</td>" for cell in row)
        + "</tr>"
        for i, row in enumerate(frame.itertuples(index=False))
    )
    notes = "\n".join(f"<p>{html.escape(note)}</p>" for note in table.notes)
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Table {table.number}</title><style>{STYLE}</style></head>
<body>
<table>
<caption>Table {table.number}. {html.escape(table.caption)}</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
{notes}
</body>
</html>
"""
