"""Reports of runs as pages, pictures and journals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sparsesearch.process_state import no_progress_bars
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults

if TYPE_CHECKING:  # torch comes with it
    from sparsesearch.engine.reopen import ReopenedRun


def write_all(results: RunResults, offline: bool, figures: bool, journal: bool) -> list[Path]:
    """Write the report of one run; see `Run.report`."""
    from sparsesearch.report.journal import write_journal
    from sparsesearch.report.pages.png import write_figures, write_png
    from sparsesearch.report.pages.run_page import write_report

    if results.final:
        results.run.write_front(results.front_json())
    paths = [write_report(results, offline), *write_png(results)]
    if figures:
        paths += write_figures(results)
    if journal:
        paths.append(write_journal(results))
    return paths


def finish(results: RunResults, open_run: Callable[[], ReopenedRun], reporter: Reporter) -> None:
    """Time the finalists if the run has a latency table of this machine, and write the report and its pictures.

    Args:
        open_run: opens the run to make its candidates again, if that is needed.

    Raises InfeasibleError SS406 if no candidate respects every limit.
    """
    from sparsesearch.export.measuring.finalists import is_measurable_here, measure_finalists
    from sparsesearch.report.pages.png import write_png
    from sparsesearch.report.pages.run_page import write_report

    if is_measurable_here(results):
        with no_progress_bars():
            measure_finalists(open_run(), reporter)
    write_report(results)
    write_png(results)
    results.require_front()
