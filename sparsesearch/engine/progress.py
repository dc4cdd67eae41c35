"""Progress on stderr: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from sparsesearch.engine import interrupts

# Seconds between plain lines of one phase.
PLAIN_INTERVAL = 5.0


class Reporter:
    """Shows one phase after another; a quiet one shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._live: Progress | None = None
        self._phase, self._total, self._done = "", 0, 0
        self._began = self._shown = 0.0

    def message(self, text: str) -> None:
        """One line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def phase(self, name: str, total: int | None) -> None:
        """Start a phase of `total` steps (None where unknown); ends the one before."""
        self.end()
        interrupts.check()
        self._phase, self._total, self._done = name, total or 0, 0
        self._began = self._shown = time.monotonic()
        if self.console.is_terminal and not self.console.quiet:
            self._live = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=self.console,
            )  # fmt: skip
            self._task = self._live.add_task(name, total=total, note="")
            self._live.start()

    def step(self, done: int, note: str = "") -> None:
        """The phase has come to step `done`."""
        interrupts.check()
        self._done = done
        if self._live is not None:
            self._live.update(self._task, completed=done, note=note)
        elif time.monotonic() - self._shown >= PLAIN_INTERVAL:
            self._shown = time.monotonic()
            of = f"/{self._total}" if self._total else ""
            elapsed = f"{time.monotonic() - self._began:.0f} s"
            self.message(f"{self._phase}: {done}{of}  {elapsed}  {note}".rstrip())

    def end(self, word: str = "done") -> None:
        """End the current phase."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._phase:
            self.message(f"{self._phase}: {self._done} {word} in {time.monotonic() - self._began:.0f} s")
        self._phase = ""
        sys.stderr.flush()
