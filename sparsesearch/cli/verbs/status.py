"""`sparsesearch status`: the progress of a run, or how it ended."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, RunArgument, print_json
from sparsesearch.errors import problem

# Seconds between two readings of the run.
SECONDS_BETWEEN_READINGS = 2.0


def status(
    run: RunArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Update every two seconds until the run ends.")] = False,
    json_: Json = False,
) -> None:
    """Show the progress of a search, from any process: only reads the run's files."""
    from rich.live import Live

    from sparsesearch.media import Terminal
    from sparsesearch.report.status import status_json, status_view

    if watch and json_:
        raise problem("SS101", "--watch shows one state after another, --json prints one.", fix="Give one of them.")
    path = Path(run)
    state = status_json(path)
    if json_:
        print_json(state)
    elif not watch:
        Terminal().print(status_view(state), soft_wrap=True)
    else:
        with Live(status_view(state), console=Terminal(), auto_refresh=False) as live:
            while state["state"] in ("running", "busy"):
                time.sleep(SECONDS_BETWEEN_READINGS)
                state = status_json(path)
                live.update(status_view(state), refresh=True)
