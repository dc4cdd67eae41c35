"""`sparsesearch report`: rebuild the HTML report and its PNG twins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import RunArgument


def report(
    run: RunArgument,
    offline: Annotated[bool, typer.Option("--offline", help="One file that holds everything (5 MB).")] = False,
    journal: Annotated[bool, typer.Option("--journal", help="Also optuna.journal, for optuna-dashboard.")] = False,
) -> None:
    """Write report.html and PNGs from the archive."""
    from sparsesearch.engine.results import RunResults
    from sparsesearch.report.html import write_report
    from sparsesearch.report.png import write_png

    results = RunResults(Path(run))
    if results.final:
        results.run.write(results.run.front, results.front_json())
    print(write_report(results, offline))
    for path in write_png(results):
        print(path)
    if journal:
        from sparsesearch.report.journal import write_journal

        print(write_journal(results))
