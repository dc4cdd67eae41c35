"""`sparsesearch dashboard`: optuna-dashboard on a run."""

from __future__ import annotations

import importlib.util
import socket
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import RunArgument, say
from sparsesearch.errors import first_line, printable, problem

# Seconds between two looks at what a running search has measured.
INTERVAL = 5.0


def dashboard(
    run: RunArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
) -> None:
    """Mirror a run into optuna.journal and serve it with optuna-dashboard, a running search as it goes on."""
    from sparsesearch.runs.results import RunResults

    results = RunResults(Path(run))
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise problem("SS307", "dashboard needs optuna-dashboard.", fix="pip install 'sparsesearch[dashboard]'")
    if not results.evaluations:
        raise problem("SS600", f"{run} has measured nothing yet.", fix=f"See: sparsesearch status {run}")
    _check_free(host, port)
    from optuna_dashboard import run_server

    from sparsesearch.report.journal import Mirror

    mirror = Mirror(results)

    def follow() -> None:
        while results.run.holder():
            time.sleep(INTERVAL)
            mirror.update(RunResults(Path(run)))

    threading.Thread(target=follow, daemon=True).start()
    say(f"{mirror.path} at http://{host}:{port}/ (Ctrl-C ends)", err=True)
    run_server(mirror.storage, host=host, port=port)


def _check_free(host: str, port: int) -> None:
    """Raise EnvironmentProblem SS310 where nobody can listen there."""
    try:
        socket.create_server((host, port)).close()
    except (OSError, ValueError) as error:  # ValueError: a host that no name server can be asked for
        reason = getattr(error, "strerror", None) or first_line(error)
        raise problem(
            "SS310", f"cannot listen on {printable(host, 80)}:{port}: {reason}.", fix="Choose another --port."
        ) from None
