"""A new directory that appears complete or not at all."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparsesearch.errors import machine_problem
from sparsesearch.runs.directory import is_alive

# Prefix of the names of temporary directories; host and process follow.
_LEFTOVER = ".sparsesearch-"


@contextmanager
def new_directory(out: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `out`, which is renamed to `out` when the block ends without an error.

    Otherwise nothing is left. Raises EnvironmentProblem SS302, SS305 or SS312, or InputError SS126, if it cannot be
    written.
    """
    work = None
    try:
        out = out.resolve()  # the target of a link
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out.parent)
        work = Path(tempfile.mkdtemp(prefix=f"{_LEFTOVER}{socket.gethostname()}-{os.getpid()}-", dir=out.parent))
        yield work
        if out.exists():
            out.rmdir()
        work.chmod(0o755)  # mkdtemp lets only its owner in
        for path in work.glob("*.safetensors"):
            path.chmod(0o644)
        work.replace(out)
    except Exception as error:
        fault = machine_problem(error, f"cannot write {out}")
        if fault is None:
            raise
        raise fault from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    """Remove temporary directories of killed exports of this machine."""
    for path in parent.glob(f"{_LEFTOVER}{socket.gethostname()}-*"):
        process = re.search(r"-(\d+)-\w+$", path.name)
        if process and not is_alive(int(process[1])):
            shutil.rmtree(path, ignore_errors=True)
