"""Paths that a caller names."""

from __future__ import annotations

import errno
from pathlib import Path

from sparsesearch.errors import name_problem, printable, problem


def run_path(results: Path, name: str) -> Path:
    """Return the directory of a run; raises InputError SS126 for a name that no directory in `results` can have."""
    if name_problem(name) or name != Path(name).name or name.startswith("."):
        raise problem(
            "SS126",
            f"name (--name) {printable(name, 80)!r} must be one directory name that does not start with a dot.",
            fix="Use letters, digits, - and _.",
        )
    return usable_path(results, "results (--results)").resolve() / name


def usable_path(path: Path, option: str) -> Path:
    """Return a path that an option names; raises InputError SS126 if no file can have it."""
    reason = name_problem(str(path))
    if not reason:
        try:
            path.stat()
        except OSError as error:  # most paths do not exist yet
            reason = "links that lead to themselves" if error.errno == errno.ELOOP else ""
    if reason:
        raise problem("SS126", f"{option} {printable(str(path), 80)!r}: {reason}.", fix="Give another name.")
    return path
