"""optuna-dashboard on a run."""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading
import time

from sparsesearch.errors import first_line, printable, problem
from sparsesearch.report.journal import Mirror
from sparsesearch.runs.results import RunResults

# Seconds between two looks at the evaluations of a running search.
INTERVAL = 5.0


def serve(results: RunResults, host: str, port: int) -> None:
    """Mirror a run into optuna.journal and serve it until Ctrl-C, a running search as it goes on.

    Raises EnvironmentProblem SS307 without optuna-dashboard, SS310 if nothing can listen there.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise problem("SS307", "dashboard needs optuna-dashboard.", fix="pip install 'sparsesearch[dashboard]'")
    _check_free(host, port)
    from optuna_dashboard import run_server

    mirror = Mirror(results)

    def follow() -> None:
        while results.run.holder():
            time.sleep(INTERVAL)
            mirror.update(RunResults(results.run.path))

    threading.Thread(target=follow, daemon=True).start()
    print(printable(f"{mirror.path} at http://{host}:{port}/ (Ctrl-C ends)"), file=sys.stderr)
    run_server(mirror.storage, host=host, port=port)


def _check_free(host: str, port: int) -> None:
    """Raise EnvironmentProblem SS310 if nothing can listen there."""
    try:
        socket.create_server((host, port)).close()
    except (OSError, ValueError) as error:  # ValueError: a host that no name server can be asked for
        reason = getattr(error, "strerror", None) or first_line(error)
        raise problem(
            "SS310", f"cannot listen on {printable(host, 80)}:{port}: {reason}.", fix="Choose another port (--port)."
        ) from None
