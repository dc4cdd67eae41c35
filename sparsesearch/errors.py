"""Everything that sparsesearch raises on purpose.

    SparseSearchError              code, one line, and a hint; never a traceback     exit code 3
    ├── InputError                 what the user wrote cannot be used                     exit code 2
    ├── EnvironmentProblem         the machine, cluster or disk does not allow it         exit code 3
    └── InfeasibleError            nothing found that respects every limit                exit code 4

Codes: SS1xx recipe and space, SS2xx model and data, SS3xx launch, SS4xx during the run, SS5xx picks and export,
SS6xx run directory.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SparseSearchError(Exception):
    """An error with a stable `code`, a one-line `message` and a `hint` that says what to do."""

    exit_code = 3

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.code, self.message, self.hint = code, message, hint

    def __str__(self) -> str:
        return f"{self.code} {self.message} {self.hint}".rstrip()


class InputError(SparseSearchError):
    """What the user wrote cannot be used."""

    exit_code = 2


class EnvironmentProblem(SparseSearchError):
    """The machine, cluster or disk does not allow it."""


class InfeasibleError(SparseSearchError):
    """No candidate respects every limit."""

    exit_code = 4


def did_you_mean(got: str, allowed: Iterable[str]) -> str:
    """'Did you mean 'x'? ' for the nearest allowed names, or '' where none is near."""
    near = difflib.get_close_matches(got, list(allowed), n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
