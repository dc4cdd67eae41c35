"""Progress on stderr, as a live bar on a terminal and as plain lines elsewhere, and in a file for other processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from sparsesearch.errors import SparseSearchError, printable
from sparsesearch.files import write_json
from sparsesearch.media import Terminal
from sparsesearch.runs import interrupts

# Seconds between plain lines of one phase, and between two writes of the file.
SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_WRITES = 1.0


class Reporter:
    """Shows one phase after another; a quiet one shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Terminal(stderr=True, quiet=quiet)
        self._live: Progress | None = None
        self._phase, self._total, self._done = "", 0, 0
        self._began = self._shown = 0.0
        self._file: Path | None = None
        self._state: dict[str, Any] = {}

    @contextmanager
    def writing_to(self, path: Path) -> Iterator[None]:
        """Write the current state to a JSON file while the block runs, and at last how it ended.

        `state` is running, finished, interrupted or failed (with `error`); a run whose state is running while no
        process holds its lock was killed. `first` and `first_at` are the phase's first reported step, up to which a
        resumed run has replayed. Times are seconds since 1970.
        """
        self._file, self._state = path, {"began": time.time(), "first": None, "first_at": None, "error": ""}
        try:
            self._update_state(state="running", phase="starting", phase_began=time.time(), done=0, total=None)
            yield
            self._update_state(state="finished")
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            with suppress(SparseSearchError):  # the disk may be full, which is why the block ended
                self._update_state(
                    state="interrupted" if interrupted else "failed", error="" if interrupted else str(error)
                )
            raise
        finally:
            self._file = None

    def _update_state(self, **changes: Any) -> None:
        if self._file is None:
            return
        self._state |= changes | {"updated": time.time()}
        write_json(self._file, self._state, durable=False)

    def message(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def phase(self, name: str, total: int | None) -> None:
        """Start a phase of `total` steps (None if unknown); ends the phase before."""
        self.end()
        interrupts.check()
        self._phase, self._total, self._done = name, total or 0, 0
        self._began = self._shown = time.monotonic()
        self._update_state(phase=name, phase_began=time.time(), done=0, total=total, first=None, first_at=None)
        if self.console.is_terminal and not self.console.quiet:
            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=self.console,
            )
            self._task = self._live.add_task(printable(name), total=total, note="")
            self._live.start()

    def step(self, done: int, note: str = "") -> None:
        """Report that `done` steps of the phase are done."""
        interrupts.check()
        self._done = done
        if self._file is not None and self._state["first"] is None:
            self._update_state(done=done, first=done, first_at=time.time())
        elif self._file is not None and time.time() - self._state["updated"] >= SECONDS_BETWEEN_WRITES:
            self._update_state(done=done)
        if self._live is not None:
            self._live.update(self._task, completed=done, note=printable(note))
        elif time.monotonic() - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            of = f"/{self._total}" if self._total else ""
            elapsed = f"{time.monotonic() - self._began:.0f} s"
            self.message(f"{self._phase}: {done}{of}  {elapsed}  {note}".rstrip())

    def end(self, word: str = "done") -> None:
        """End the current phase.

        Args:
            word: state of its steps, for the line.
        """
        if self._phase:
            self._update_state(done=self._done)
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._phase:
            self.message(f"{self._phase}: {self._done} {word} in {time.monotonic() - self._began:.0f} s")
        self._phase = ""
        sys.stderr.flush()
