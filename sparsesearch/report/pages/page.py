"""The frame of every page, with style, script and plotly, and the HTML of its figures and tables."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from rich.table import Table

from sparsesearch.files import atomic_write, write_text
from sparsesearch.media import BLUE, GREEN, GREY, ORANGE, VERMILION, script_json

COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", VERMILION, "#F0E442", GREY)
# For print and for readers who see no colours.
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
# A page may load and run only its own script and plotly; scripts in the page are allowed by their hashes.
_POLICY = (
    "default-src 'none'; script-src {}; style-src 'unsafe-inline'; img-src data: blob:; connect-src 'none'; "
    "base-uri 'none'; form-action 'none'"
)
# Allows a script in the page's folder; 'self' is not enough if a browser gives files no origin.
_SAME_FOLDER = "'self' file:"

Row = Sequence["str | Cell"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        sort: number that it is sorted by; None: the number that its text begins with.
        key: key of the candidate that a click on it shows.
    """

    text: str
    sort: float | None = None
    key: str = ""


def write_html(path: Path, title: str, sections: Sequence[Markup], offline: bool = False) -> Path:
    """Write a page; raises as `files.atomic_write`.

    Args:
        sections: HTML; strings that are not Markup are escaped.
        offline: put plotly.js into the page (one file of 5 MB); otherwise it is written beside the page as
            `plotly.min.js`. Neither needs a network.
    """
    library, script = get_plotlyjs(), _resource("page.js")
    if offline:
        plotly, sources = Markup("<script>{}</script>").format(Markup(library)), [_hash(library), _hash(script)]
    else:
        write_text(path.parent / "plotly.min.js", library)
        plotly, sources = Markup('<script src="plotly.min.js"></script>'), [_SAME_FOLDER, _hash(script)]
    text = Markup(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="{}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        "<title>{}</title><style>{}</style>{}</head><body>"
        '<div class="top"><button type="button" class="theme">Dark</button></div>'
        "{}<script>{}</script></body></html>"
    ).format(
        _POLICY.format(" ".join(sources)),
        title,
        Markup(_resource("page.css")),
        plotly,
        Markup("\n").join(sections),
        Markup(script),
    )
    with atomic_write(path) as temporary:
        # Names of files may contain bytes that are not text.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    return path


def _hash(script: str) -> str:
    """Return the source by which a policy allows a script in its page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _resource(name: str) -> str:
    return files("sparsesearch.report.pages").joinpath(name).read_text(encoding="utf-8")


def section(title: str, *parts: Markup, note: str = "", anchor: str = "") -> Markup:
    """Return a section with a heading, a note and parts."""
    identity = Markup(' id="{}"').format(anchor) if anchor else ""
    below = Markup('<p class="note">{}</p>').format(note) if note else ""
    return Markup("<section{}><h2>{}</h2>{}{}</section>").format(identity, title, below, Markup().join(parts))


def card(*parts: Markup) -> Markup:
    """Return a card with parts."""
    return Markup('<div class="card">{}</div>').format(Markup().join(parts))


def pair(*parts: Markup) -> Markup:
    """Return parts side by side, if the window is wide enough."""
    return Markup('<div class="pair">{}</div>').format(Markup().join(parts))


def stack(*parts: Markup) -> Markup:
    """Return parts one below another, as one part of a `pair`."""
    return Markup("<div>{}</div>").format(Markup().join(parts))


def figure_div(figure: go.Figure) -> Markup:
    """Return a figure that the page's script draws as wide as its container; newlines in its texts break lines."""
    text = script_json(figure.to_json(engine="json"))
    return Markup('<div></div><script type="application/json" class="figure">{}</script>').format(text)


def data_block(identity: str, data: Any) -> Markup:
    """Return a block of JSON for the page's script."""
    text = script_json(json.dumps(data, separators=(",", ":")))
    return Markup('<script type="application/json" id="{}">{}</script>').format(identity, text)


def table(heads: Sequence[str], rows: Sequence[Row], highlighted: Sequence[bool] = ()) -> Markup:
    """Return a table that a click on a head sorts.

    Args:
        highlighted: whether each row is highlighted; empty: none is.
    """
    head = Markup().join(Markup("<th>{}</th>").format(name) for name in heads)
    marks = highlighted or [False] * len(rows)
    body = Markup().join(_row(cells, mark) for cells, mark in zip(rows, marks, strict=True))
    return Markup('<div class="wide"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(
        head, body
    )


def _row(row: Row, highlighted: bool) -> Markup:
    cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
    key = next((cell.key for cell in cells if cell.key), "")
    pick = Markup(' class="pick"') if highlighted else ""
    mark = Markup(' data-key="{}"').format(key) if key else ""
    return Markup("<tr{}{}>{}</tr>").format(pick, mark, Markup().join(map(_cell, cells)))


def _cell(cell: Cell) -> Markup:
    order = "" if cell.sort is None else Markup(' data-sort="{:.12g}"').format(cell.sort)
    if not cell.key:
        return Markup("<td{}>{}</td>").format(order, cell.text)
    return Markup('<td{}><button type="button" class="link" data-key="{}">{}</button></td>').format(
        order, cell.key, cell.text
    )


def html_table(terminal_table: Table) -> Markup:
    """Return a terminal table as HTML."""
    columns = terminal_table.columns
    rows = zip(*(column.cells for column in columns), strict=True)
    html = table([str(column.header) for column in columns], [[str(cell) for cell in row] for row in rows])
    return Markup('<p class="note">{}</p>{}').format(str(terminal_table.title), card(html))
