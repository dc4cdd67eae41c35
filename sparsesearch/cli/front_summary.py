"""The front of a finished search as a table or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sparsesearch.cli.options import print_json

if TYPE_CHECKING:
    from sparsesearch.api import Run


def print_outcome(run: Run, as_json: bool) -> None:
    """Print the front of a run as JSON, or a summary."""
    from sparsesearch.media import Terminal
    from sparsesearch.report.terminal import print_summary

    if as_json:
        print_json(run.results.front_json())
    else:
        print_summary(run.results, Terminal())
