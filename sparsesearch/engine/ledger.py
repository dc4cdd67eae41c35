"""Seconds and tokens by phase, beside the archive: time is never the same twice."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

from sparsesearch.engine.directory import RunDirectory


class Ledger:
    """Seconds and tokens by phase, a JSON line each; beside the archive, since time is never the same twice."""

    def __init__(self, run: RunDirectory) -> None:
        self._path = run.ledger
        self._open: dict[str, list[float]] = {}
        self._before = sum(float(entry["seconds"]) for entry in read_ledger(run))
        self._started = time.monotonic()

    def add(self, phase: str, seconds: float, tokens: int, quiet: bool = False) -> None:
        """Note work; with `quiet` it is written with the next `flush` of the phase."""
        entry = self._open.setdefault(phase, [0.0, 0, 0])
        entry[0] += seconds
        entry[1] += tokens
        entry[2] += 1
        if not quiet:
            self.flush(phase)

    def flush(self, phase: str) -> None:
        """Write what was noted of a phase."""
        seconds, tokens, count = self._open.pop(phase, [0.0, 0, 0])
        if count:
            with self._path.open("a") as file:
                line = {"phase": phase, "seconds": round(seconds, 3), "tokens": int(tokens), "count": int(count)}
                file.write(json.dumps(line) + "\n")

    def seconds(self) -> float:
        """Seconds of the phases that earlier sessions finished, and wall-clock seconds of this one."""
        return self._before + time.monotonic() - self._started


def read_ledger(run: RunDirectory) -> list[dict[str, Any]]:
    """The ledger's lines; what a crash tore is left out."""
    entries = []
    for line in run.ledger.read_text().splitlines() if run.ledger.exists() else []:
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries
