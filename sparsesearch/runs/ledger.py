"""Seconds and tokens by phase, beside the archive: time is never the same twice."""

from __future__ import annotations

import time

from sparsesearch.runs.directory import RunDirectory

# Forward passes that one token of training is counted as.
TRAINING_PASSES = 3


class Ledger:
    """Seconds and tokens by phase, a JSON line each; beside the archive, since time is never the same twice."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._open: dict[str, list[float]] = {}
        self._before = sum(float(entry["seconds"]) for entry in run.lines(run.ledger))
        self._started = time.monotonic()

    def add(
        self, phase: str, seconds: float, tokens: int, quiet: bool = False, device_seconds: float | None = None
    ) -> None:
        """Note work; with `quiet` it is written with the next `flush` of the phase.

        Args:
            device_seconds: summed over the workers that did it, where that is known.
        """
        entry = self._open.setdefault(phase, [0.0, 0, 0, 0.0])
        entry[0] += seconds
        entry[1] += tokens
        entry[2] += 1
        entry[3] += device_seconds or 0.0
        if not quiet:
            self.flush(phase)

    def flush(self, phase: str) -> None:
        """Write what was noted of a phase."""
        seconds, tokens, count, device = self._open.pop(phase, [0.0, 0, 0, 0.0])
        if count:
            line = {"phase": phase, "seconds": round(seconds, 3), "tokens": int(tokens), "count": int(count)}
            own = {"device_seconds": round(device, 3)} if device else {}
            self._run.append(self._run.ledger, line | own)

    def tokens(self, phase: str) -> int:
        """Tokens of a phase that are written."""
        return sum(int(line["tokens"]) for line in self._run.lines(self._run.ledger) if line["phase"] == phase)

    def seconds(self) -> float:
        """Seconds of the phases that earlier sessions finished, and wall-clock seconds of this one."""
        return self._before + time.monotonic() - self._started
