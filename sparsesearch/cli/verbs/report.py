"""`sparsesearch report`: write the HTML report and its pictures, or compare several runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import say
from sparsesearch.errors import problem


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run directories; several are compared.")],
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help="Put plotly.js into the page, which is then one file of 5 MB without links to audits (default: "
            "plotly.min.js is written next to the page). Neither needs a network.",
        ),
    ] = False,
    figures: Annotated[
        bool, typer.Option("--figures", help="Also write every figure as PNG and SVG, in figures/.")
    ] = False,
    journal: Annotated[
        bool, typer.Option("--journal", help="Also write optuna.journal, for optuna-dashboard.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="File of the page that compares runs (default: comparison.html of the first run)."),
    ] = None,
) -> None:
    """Write report.html and PNGs from the archive; for several runs, one page with all their fronts."""
    from sparsesearch.api import Run, report_runs

    opened = [Run.open(run) for run in runs]
    if len(opened) > 1:
        if journal:
            raise problem("SS101", "--journal is for one run.", fix="Give it to each run by itself.")
        paths = report_runs(opened, out, offline, figures)
    elif out is not None:
        raise problem("SS101", "--out is for comparing runs; a report is in its run.", fix="Name several runs.")
    else:
        paths = opened[0].report(offline, figures, journal)
    for path in paths:
        say(path)
