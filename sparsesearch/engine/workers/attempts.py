"""Calls that kill their worker: how often they are tried, and a note on disk of the candidate being measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from sparsesearch.errors import DamagedFile, problem
from sparsesearch.files import read_json, write_json

# Times that a call is repeated on a fresh worker after its worker died.
RETRIES = 2

Result = TypeVar("Result")


def result_of_death(reason: str, on_death: Callable[[str], Result] | None) -> Result:
    """Return the result of a call whose workers keep dying; raises SparseSearchError SS400 without `on_death`.

    Args:
        on_death: makes the result from the reason.
    """
    if on_death is None:
        raise problem("SS400", f"{reason}.", fix="Is there enough memory? Try fewer workers (--workers).")
    return on_death(reason)


class Attempts:
    """Counts how often in a row the process died while it measured the same candidate."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: file that exists only while a candidate is measured.
        """
        self.path, self._id, self._deaths = path, "", 0
        with suppress(DamagedFile, KeyError, ValueError, TypeError):
            attempt = read_json(path)
            self._id, self._deaths = str(attempt["candidate"]), int(attempt["attempts"])

    def deaths(self, candidate: str) -> int:
        """Return how often the process died while it measured the candidate with this id."""
        return self._deaths if candidate == self._id else 0

    @contextmanager
    def measuring(self, candidate: str) -> Iterator[None]:
        """Note the candidate while the block runs; only a process that dies leaves the note behind."""
        write_json(self.path, {"candidate": candidate, "attempts": self.deaths(candidate) + 1}, durable=False)
        try:
            yield
        finally:
            self.path.unlink(missing_ok=True)
