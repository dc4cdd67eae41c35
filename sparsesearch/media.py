"""Escaping of text from outside (names, origins, errors) for each medium, so that none of it acts as markup or control.

Pages are built from `markupsafe.Markup`, which escapes all text that is not Markup; the texts of their figures are
escaped by `plain` in the script of the page, since plotly renders some HTML.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.console import Console
from rich.text import Text

from sparsesearch.errors import MAX_LINE_CHARACTERS, printable
from sparsesearch.files import atomic_write

# Okabe and Ito's palette, which colour-blind readers can distinguish.
BLUE, ORANGE, GREEN, GREY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#999999", "#D55E00"
# Characters that could end a script element, or a string in older scripts.
_SCRIPT_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
# HTML, emphasis, code, links, cells, mathematics, and text that GitHub turns into links by itself.
_MARKDOWN_ESCAPES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "://": "&#58;//", "www.": "www&#46;", "@": "&#64;"}
_MARKDOWN_SYNTAX = re.compile(r"[<>&@\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|://|www\.")


class Terminal(Console):
    """A console without markup, which shows control characters instead of obeying them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text, MAX_LINE_CHARACTERS), **options)


def script_json(data: str) -> Markup:
    """Return a JSON document, escaped for the inside of a script element."""
    return Markup("".join(_SCRIPT_ESCAPES.get(c, c) for c in data))


def markdown(text: object) -> str:
    """Return text escaped for a line or a cell of Markdown."""
    line = printable(str(text), MAX_LINE_CHARACTERS)
    return _MARKDOWN_SYNTAX.sub(lambda match: _MARKDOWN_ESCAPES.get(match[0], f"\\{match[0]}"), line)


@contextmanager
def picture(height: float) -> Iterator[Any]:
    """Yield a figure of matplotlib, 7 by `height` inches, in which a dollar sign starts no formula."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"text.parse_math": False}):
        yield Figure(figsize=(7, height), layout="constrained")


def render_picture(figure: Any, form: str, **options: Any) -> bytes:
    """Return the bytes of a `picture` as a file of a form, png or svg."""
    from matplotlib.text import Text as Label

    for label in figure.findobj(Label):
        label.set_text(printable(label.get_text()))
    file = io.BytesIO()
    figure.savefig(file, format=form, **options)
    return file.getvalue()


def save_picture(figure: Any, path: Path, **options: Any) -> None:
    """Write a `picture` in the form of the path's suffix; raises as `files.atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(render_picture(figure, path.suffix[1:], **options))
