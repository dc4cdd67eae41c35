"""The candidate that is being measured in this process, on disk: one that kills its process is not tried for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sparsesearch.errors import DamagedFile
from sparsesearch.files import read_json, write_json


class Attempts:
    """Counts how often in a row a process ended while it measured the same candidate."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: of a file that is there only while a candidate is measured.
        """
        self.path, self._id, self._deaths = path, "", 0
        with suppress(DamagedFile, KeyError, ValueError, TypeError):
            left = read_json(path)
            self._id, self._deaths = str(left["candidate"]), int(left["attempts"])

    def deaths(self, candidate: str) -> int:
        """How often the process ended while it measured the candidate with this id."""
        return self._deaths if candidate == self._id else 0

    @contextmanager
    def measuring(self, candidate: str) -> Iterator[None]:
        """Note the candidate for as long as the block runs; only the end of the process leaves the note behind."""
        write_json(self.path, {"candidate": candidate, "attempts": self.deaths(candidate) + 1}, durable=False)
        try:
            yield
        finally:
            self.path.unlink(missing_ok=True)
