"""How runs and candidates show themselves in notebooks: HTML that needs neither scripts nor a network."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from sparsesearch.engine.results import RunResults
from sparsesearch.report.page import html_table
from sparsesearch.report.png import draw_front
from sparsesearch.report.terminal import front_table
from sparsesearch.searchers import Evaluation


def front_html(results: RunResults, candidates: Sequence[Evaluation]) -> str:
    """Candidates as a table, with dense and uniform beside them."""
    return html_table(front_table(results, list(candidates), f"Front of {results.run.path.name}"))


def run_html(results: RunResults) -> str:
    """A run as a figure and a table of its front; in one line where it has none yet."""
    counts = f"{len(results.evaluations)} evaluations, {results.tokens:,} selection tokens"
    head = f"<b>{html.escape(results.run.path.name)}</b> ({html.escape(results.info['model'])}): {counts}"
    if not results.final:
        return f"<p>{head}; no front yet</p>"
    picture = base64.b64encode(_picture(results)).decode()
    return f'<p>{head}</p><img alt="front" src="data:image/png;base64,{picture}">{front_html(results, results.front)}'


def _picture(results: RunResults) -> bytes:
    from matplotlib.figure import Figure

    figure, file = Figure(figsize=(7, 4.5), layout="constrained"), io.BytesIO()
    draw_front(results, figure.subplots())
    figure.savefig(file, format="png", dpi=100)
    return file.getvalue()
