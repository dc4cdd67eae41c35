"""`sparsesearch report`: rebuild the HTML report and its picture twins, or compare several runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsesearch.cli.options import say, usable
from sparsesearch.errors import problem

if TYPE_CHECKING:
    from sparsesearch.runs.results import RunResults


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
    from sparsesearch.runs.results import RunResults

    found = [RunResults(Path(run)) for run in runs]
    if len(found) > 1:
        if journal:
            raise problem("SS101", "--journal is for one run.", fix="Give it to each run by itself.")
        _compared(found, out or found[0].run.path / "comparison.html", offline, figures)
        return
    if out is not None:
        raise problem("SS101", "--out is for comparing runs; a report lies in its run.", fix="Name several runs.")
    _single(found[0], offline, figures, journal)


def _single(results: RunResults, offline: bool, figures: bool, journal: bool) -> None:
    from sparsesearch.report.pages.png import write_figures, write_png
    from sparsesearch.report.pages.run_page import write_report

    if results.final:
        results.run.write_front(results.front_json())
    say(write_report(results, offline))
    for path in [*write_png(results), *(write_figures(results) if figures else [])]:
        say(path)
    if journal:
        from sparsesearch.report.journal import write_journal

        say(write_journal(results))


def _compared(runs: list[RunResults], out: Path, offline: bool, figures: bool) -> None:
    from sparsesearch.report.pages.png import write_runs_figures
    from sparsesearch.report.pages.runs_page import write_runs_page

    if not usable(out, "--out").parent.is_dir():
        raise problem("SS126", f"--out {out}: no such directory as {out.parent}.", fix="Make it first.")
    say(write_runs_page(runs, out, offline))
    if figures:
        for path in write_runs_figures(runs, out.parent / "figures"):
            say(path)
