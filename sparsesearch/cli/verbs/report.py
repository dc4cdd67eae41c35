"""`sparsesearch report`: rebuild the HTML report and its picture twins, or compare several runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import say
from sparsesearch.errors import problem


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="A run directory; several are compared.")],
    offline: Annotated[bool, typer.Option("--offline", help="One file that holds everything (5 MB).")] = False,
    figures: Annotated[bool, typer.Option("--figures", help="Also every figure as PNG and SVG, in figures/.")] = False,
    journal: Annotated[bool, typer.Option("--journal", help="Also optuna.journal, for optuna-dashboard.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where the page that compares runs goes; comparison.html of the first.")
    ] = None,
) -> None:
    """Write report.html and PNGs from the archive; of several runs, one page with their fronts over each other."""
    from sparsesearch.api import Run, report_runs

    opened = [Run.open(run) for run in runs]
    if len(opened) > 1:
        if journal:
            raise problem("SS101", "--journal is for one run.", fix="Give it to each run by itself.")
        paths = report_runs(opened, out, offline, figures)
    elif out is not None:
        raise problem("SS101", "--out is for comparing runs; a report lies in its run.", fix="Name several runs.")
    else:
        paths = opened[0].report(offline, figures, journal)
    for path in paths:
        say(path)
