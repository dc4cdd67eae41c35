"""`sparsesearch status`: what a run is doing, or how it ended."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, RunArgument, print_json
from sparsesearch.errors import problem

# Seconds between two looks.
INTERVAL = 2.0


def status(
    run: RunArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until it ends.")] = False,
    json_: Json = False,
) -> None:
    """Show how far a search is, from any process: it reads the run's files and changes nothing."""
    from rich.live import Live

    from sparsesearch.media import Terminal
    from sparsesearch.report.status import status_json, status_view

    if watch and json_:
        raise problem("SS101", "--watch shows one state after another, --json prints one.", fix="Give one of them.")
    path = Path(run)
    found = status_json(path)
    if json_:
        print_json(found)
    elif not watch:
        Terminal().print(status_view(found), soft_wrap=True)
    else:
        with Live(status_view(found), console=Terminal(), auto_refresh=False) as live:
            while found["state"] in ("running", "busy"):
                time.sleep(INTERVAL)
                found = status_json(path)
                live.update(status_view(found), refresh=True)
