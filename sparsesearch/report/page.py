"""The frame of every page: style and script, plotly inside or beside it, and figures and tables as parts."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from rich.table import Table

# Okabe-Ito: told apart by colour-blind readers.
BLUE, ORANGE, GREEN, GREY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#999999", "#D55E00"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", VERMILION, "#F0E442", GREY)
# Beside colours, for print and for readers who see none.
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "margin": {"l": 60, "r": 15, "t": 45, "b": 45},
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "hovermode": "closest",
}
# Named one by one: among plotly's own buttons is one that sends the figure to a server.
CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]]}

Row = Sequence["str | Cell"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        sort: what it is sorted by, where that is not the number that its text begins with.
        key: of the candidate that a click on it shows.
    """

    text: str
    sort: float | None = None
    key: str = ""


def page(path: Path, title: str, sections: Sequence[str], offline: bool = False) -> Path:
    """Write a page.

    Args:
        offline: put plotly.js into the page (one file of 5 MB); otherwise it lies beside it as `plotly.min.js`.
            Neither needs a network.
    """
    if offline:
        plotly = f"<script>{get_plotlyjs()}</script>"
    else:
        (path.parent / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
        plotly = '<script src="plotly.min.js"></script>'
    body = "\n".join(sections)
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{html.escape(title)}</title><style>{_part('page.css')}</style>{plotly}</head><body>"
        '<div class="top"><button type="button" class="theme">Dark</button></div>'
        f"{body}<script>{_part('page.js')}</script></body></html>"
    )
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def _part(name: str) -> str:
    return files("sparsesearch.report").joinpath(name).read_text(encoding="utf-8")


def section(title: str, *parts: str, note: str = "", anchor: str = "") -> str:
    """A heading with what belongs under it; `note` and `title` are text."""
    identity = f' id="{anchor}"' if anchor else ""
    below = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f"<section{identity}><h2>{html.escape(title)}</h2>{below}{''.join(parts)}</section>"


def card(*parts: str) -> str:
    """Parts on a surface of their own."""
    return f'<div class="card">{"".join(parts)}</div>'


def pair(*parts: str) -> str:
    """Parts side by side where the window is wide enough."""
    return f'<div class="pair">{"".join(parts)}</div>'


def figure_div(figure: go.Figure) -> str:
    """A figure as a part of a page, as wide as its place."""
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG)
    return text


def data_block(identity: str, data: Any) -> str:
    """JSON for the script of the page."""
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{identity}">{text}</script>'


def table(heads: Sequence[str], rows: Sequence[Row], picked: Sequence[bool] = ()) -> str:
    """A table that a click on a head sorts.

    Args:
        picked: for each row whether it stands out; none where empty.
    """
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    marks = picked or [False] * len(rows)
    body = "".join(_row(cells, mark) for cells, mark in zip(rows, marks, strict=True))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(cells: Row, picked: bool) -> str:
    whole = [cell if isinstance(cell, Cell) else Cell(cell) for cell in cells]
    key = next((cell.key for cell in whole if cell.key), "")
    marks = (' class="pick"' if picked else "") + (f' data-key="{html.escape(key)}"' if key else "")
    return f"<tr{marks}>{''.join(map(_cell, whole))}</tr>"


def _cell(cell: Cell) -> str:
    order = "" if cell.sort is None else f' data-sort="{cell.sort:.12g}"'
    text = html.escape(cell.text)
    if cell.key:
        text = f'<button type="button" class="link" data-key="{html.escape(cell.key)}">{text}</button>'
    return f"<td{order}>{text}</td>"


def html_table(of: Table) -> str:
    """A table of the terminal for a page."""
    rows = zip(*(column.cells for column in of.columns), strict=True)
    shown = table([str(column.header) for column in of.columns], [[str(cell) for cell in row] for row in rows])
    return f'<p class="note">{html.escape(str(of.title))}</p>{card(shown)}'
