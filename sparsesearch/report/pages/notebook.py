"""The display of runs and candidates in notebooks: HTML without scripts and network access."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from markupsafe import Markup

from sparsesearch.media import picture, render_picture
from sparsesearch.report.pages.page import html_table
from sparsesearch.report.pages.png import draw_front
from sparsesearch.report.terminal import front_table
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation


def front_html(results: RunResults, candidates: Sequence[Evaluation]) -> Markup:
    """Return a table of candidates, with dense and uniform ones for comparison."""
    return html_table(front_table(results, list(candidates), f"Front of {results.run.path.name}"))


def run_html(results: RunResults) -> Markup:
    """Return a figure and a table of a run's front; one line if it has none yet."""
    counts = f"{len(results.evaluations)} evaluations, {results.tokens:,} selection tokens"
    head = Markup("<b>{}</b> ({}): {}").format(results.run.path.name, results.info["model"], counts)
    if not results.final:
        return Markup("<p>{}; no front yet</p>").format(head)
    image = base64.b64encode(_picture(results)).decode()
    return Markup('<p>{}</p><img alt="front" src="data:image/png;base64,{}">{}').format(
        head, image, front_html(results, results.front)
    )


def _picture(results: RunResults) -> bytes:
    with picture(4.5) as figure:
        draw_front(results, figure.subplots())
        return render_picture(figure, "png", dpi=100)
