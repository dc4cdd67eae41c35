"""How a finished search is shown: report, PNGs, and the front as a table or as JSON."""

from __future__ import annotations

from sparsesearch.cli.options import print_json
from sparsesearch.engine.launch.access import TRUSTED, Access
from sparsesearch.export.measuring.finalists import is_here, measure_finalists
from sparsesearch.media import Terminal
from sparsesearch.report.pages.png import write_png
from sparsesearch.report.pages.run_page import write_report
from sparsesearch.report.terminal import print_summary
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults


def show_outcome(results: RunResults, as_json: bool, access: Access = TRUSTED) -> None:
    """Write the reports and print the front; raises InfeasibleError SS406 where there is none."""
    if is_here(results):
        measure_finalists(results, Reporter(), access)
    write_report(results)
    write_png(results)
    results.require_front()
    if as_json:
        print_json(results.front_json())
    else:
        print_summary(results, Terminal())
