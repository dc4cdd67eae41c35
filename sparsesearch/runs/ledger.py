"""The ledger: seconds and tokens by phase. It is not part of the archive, since times differ between equal runs."""

from __future__ import annotations

import time

from sparsesearch.runs.directory import RunDirectory

# Forward passes that one training token counts as.
TRAINING_PASSES = 3


class Ledger:
    """Appends seconds and tokens by phase to `ledger.jsonl`, one JSON line each, and sums them up."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._open: dict[str, list[float]] = {}
        self._before = sum(float(entry["seconds"]) for entry in run.lines(run.ledger))
        self._started = time.monotonic()

    def add(
        self, phase: str, seconds: float, tokens: int, quiet: bool = False, device_seconds: float | None = None
    ) -> None:
        """Add work to a phase and write it, or with `quiet` write it with the next `flush` of the phase.

        Args:
            device_seconds: seconds summed over workers, if known.
        """
        entry = self._open.setdefault(phase, [0.0, 0, 0, 0.0])
        entry[0] += seconds
        entry[1] += tokens
        entry[2] += 1
        entry[3] += device_seconds or 0.0
        if not quiet:
            self.flush(phase)

    def flush(self, phase: str) -> None:
        """Write the work of a phase that is not written yet, as one line."""
        seconds, tokens, count, device = self._open.pop(phase, [0.0, 0, 0, 0.0])
        if count:
            line = {"phase": phase, "seconds": round(seconds, 3), "tokens": int(tokens), "count": int(count)}
            if device:
                line["device_seconds"] = round(device, 3)
            self._run.append(self._run.ledger, line)

    def tokens(self, phase: str) -> int:
        """Return the written tokens of a phase."""
        return sum(int(line["tokens"]) for line in self._run.lines(self._run.ledger) if line["phase"] == phase)

    def seconds(self) -> float:
        """Return the seconds in lines of earlier sessions plus the wall-clock seconds of this one."""
        return self._before + time.monotonic() - self._started
