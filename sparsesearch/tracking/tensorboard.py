"""TensorBoard: writes event files into the run, with tensorboardX."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tensorboardX import SummaryWriter

from sparsesearch.errors import machine_problem
from sparsesearch.media import markdown
from sparsesearch.runs.results import RunResults
from sparsesearch.tracking.base import Point, Tracker, settings_of


class TensorBoard(Tracker):
    """Logs a run to TensorBoard; `tensorboard --logdir RUN` (or a folder of runs) shows it."""

    def __init__(self, results: RunResults) -> None:
        folder = results.run.path / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        _check_writable(folder)
        self._writer = SummaryWriter(str(folder))
        rows = "".join(f"| {name} | {markdown(value)} |\n" for name, value in settings_of(results).items())
        self._writer.add_text("settings", f"| | |\n|---|---|\n{rows}")
        self.location = f"{folder}  (tensorboard --logdir {results.run.path})"

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _check_writable(folder: Path) -> None:
    """Raise EnvironmentProblem SS302 or SS305 if a folder is not writable; the writer's thread fails silently."""
    probe = folder / "probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(2**16))
        probe.unlink()
    except OSError as error:
        raise machine_problem(error, f"cannot write to {folder}") or error from None
