"""The archive: every evaluation ever made, one JSON line each, append-only and crash-safe.

Lines hold nothing that depends on timing or on the number of workers, so equal runs write equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any

from sparsesearch.errors import EnvironmentProblem
from sparsesearch.searchers.base import Evaluation
from sparsesearch.space import Genome

# Genome, draw, sequences, training tokens: what makes two evaluations the same.
Key = tuple[Genome, int, int, int]
# Seconds between two times that the file is forced to disk.
SYNC = 0.1


class Archive:
    """Reads all lines on opening and appends to the file, one writer at a time (the run's lock sees to that)."""

    def __init__(self, path: Path, writable: bool = False) -> None:
        """
        Args:
            writable: drop a torn last line, so that lines can be appended. Readers leave the file alone: it may be a
                line that a running controller is just writing.
        """
        self.path = path
        self.entries: dict[Key, Evaluation] = {}
        self._synced = 0.0
        if path.exists():
            if writable:
                self._trim_torn_tail()
            whole_lines = path.read_text().split("\n")[:-1]
            for number, line in enumerate(whole_lines, 1):
                evaluation = self._parse(line, number)
                self.entries[key_of(evaluation)] = evaluation

    def _parse(self, line: str, number: int) -> Evaluation:
        try:
            return from_json(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise EnvironmentProblem(
                "SS601", f"{self.path}:{number} is damaged: {error}.", "Cut the file before this line and resume."
            ) from None

    def _trim_torn_tail(self) -> None:
        """Drop what follows the last newline: a line whose writer was killed."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with self.path.open("r+b") as file:
                file.truncate(whole)

    def append(self, evaluation: Evaluation) -> None:
        """Add an evaluation; a crash of the process loses none, one of the machine at most `SYNC` seconds of them."""
        line = json.dumps(to_json(evaluation), separators=(",", ":")) + "\n"
        with self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            if time.monotonic() - self._synced > SYNC:
                os.fsync(file.fileno())
                self._synced = time.monotonic()
        self.entries[key_of(evaluation)] = evaluation

    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def key_of(evaluation: Evaluation) -> Key:
    return evaluation.genome, evaluation.draw, evaluation.sequences, evaluation.trained


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """A line of the archive; what is not finite becomes null."""
    quality = evaluation.quality if math.isfinite(evaluation.quality) else None
    rare = {"trained": evaluation.trained, "parents": list(evaluation.parents)}
    return {name: value for name, value in rare.items() if value} | {
        "id": evaluation.genome.id,
        "genome": evaluation.genome.levels.tolist(),
        "sequences": evaluation.sequences,
        "known": evaluation.known,
        "draw": evaluation.draw,
        "origin": evaluation.origin,
        "status": evaluation.status,
        "quality": quality,
        "costs": evaluation.costs,
        "losses": [x if math.isfinite(x) else None for x in evaluation.losses],
        "error": evaluation.error,
    }


def from_json(data: dict[str, Any]) -> Evaluation:
    """The evaluation of a line; null becomes nan."""
    return Evaluation(
        genome=Genome.of(data["genome"]),
        sequences=data["sequences"],
        draw=data["draw"],
        origin=data["origin"],
        status=data["status"],
        quality=math.nan if data["quality"] is None else data["quality"],
        costs=data["costs"],
        losses=tuple(math.nan if x is None else x for x in data["losses"]),
        error=data["error"],
        known=data["known"],
        trained=data.get("trained", 0),
        parents=tuple(data.get("parents", ())),
    )
