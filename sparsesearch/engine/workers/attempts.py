"""A note on disk of the candidate in work, so that one that kills its process is not retried forever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparsesearch.errors import DamagedFile
from sparsesearch.files import read_json, write_json


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
