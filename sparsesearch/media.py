"""How text from outside (names, origins, errors) goes to each medium, as it is: nothing of it is rendered or obeyed.

Pages are put together from `markupsafe.Markup`, which escapes whatever is no Markup; the texts of their figures are
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

from sparsesearch.errors import LONGEST_LINE, printable
from sparsesearch.files import replacing

# What ends a script element, or a string in older scripts.
_IN_SCRIPTS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
# HTML, emphasis, code, links, cells, mathematics, and what GitHub's dialect makes links of by itself.
_IN_MARKDOWN = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "://": "&#58;//", "www.": "www&#46;", "@": "&#64;"}
_MARKDOWN = re.compile(r"[<>&@\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|://|www\.")


class Terminal(Console):
    """A console without markup, which shows control characters instead of obeying them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text, LONGEST_LINE), **options)


def script_json(data: str) -> Markup:
    """A JSON document for the inside of a script element."""
    return Markup("".join(_IN_SCRIPTS.get(c, c) for c in data))


def markdown(text: object) -> str:
    """Text for a line or a cell of Markdown."""
    shown = printable(str(text), LONGEST_LINE)
    return _MARKDOWN.sub(lambda found: _IN_MARKDOWN.get(found[0], f"\\{found[0]}"), shown)


@contextmanager
def picture(height: float) -> Iterator[Any]:
    """A figure of matplotlib, 7 inches wide, in which a dollar sign is no mathematics."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"text.parse_math": False}):
        yield Figure(figsize=(7, height), layout="constrained")


def drawn(figure: Any, form: str, **options: Any) -> bytes:
    """A `picture` as a file of a form, png or svg."""
    from matplotlib.text import Text as Label

    for label in figure.findobj(Label):
        label.set_text(printable(label.get_text()))
    file = io.BytesIO()
    figure.savefig(file, format=form, **options)
    return file.getvalue()


def save_picture(figure: Any, path: Path, **options: Any) -> None:
    """Write a `picture` in the form that its suffix says; raises as `files.replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(drawn(figure, path.suffix[1:], **options))
