"""Reports of runs as pages, pictures and journals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sparsesearch.api.searches import usable_path
from sparsesearch.errors import problem
from sparsesearch.runs.results import RunResults

if TYPE_CHECKING:
    from sparsesearch.api.run import Run


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


def report_runs(
    runs: Sequence[Run], out: str | Path | None = None, offline: bool = False, figures: bool = False
) -> list[Path]:
    """Write one page that compares the fronts of runs; returns the paths.

    Args:
        out: file of the page; `comparison.html` of the first run if None.
        offline, figures: as for `Run.report`.

    Raises InputError SS126 if the directory of `out` does not exist.
    """
    from sparsesearch.report.pages.png import write_runs_figures
    from sparsesearch.report.pages.runs_page import write_runs_page

    page = runs[0].path / "comparison.html" if out is None else Path(out)
    if not usable_path(page, "--out").parent.is_dir():
        raise problem("SS126", f"--out {page}: directory {page.parent} does not exist.", fix="Make it first.")
    results = [run.results for run in runs]
    paths = [write_runs_page(results, page, offline)]
    return paths + (write_runs_figures(results, page.parent / "figures") if figures else [])
