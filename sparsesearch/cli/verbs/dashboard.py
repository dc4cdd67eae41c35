"""`sparsesearch dashboard`: optuna-dashboard on a run."""

from __future__ import annotations

from typing import Annotated

import typer

from sparsesearch.cli.options import RunArgument


def dashboard(
    run: RunArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 allows other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Mirror a run into optuna.journal and serve it with optuna-dashboard; a running search is updated."""
    from sparsesearch.api import Run

    Run.open(run).dashboard(host, port)
