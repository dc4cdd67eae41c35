"""Weights & Biases: a new run of the project `sparsesearch` each time; offline where nobody is logged in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import wandb

from sparsesearch.runs.results import RunResults
from sparsesearch.tracking.base import Point, Tracker, settings_of

PROJECT = "sparsesearch"
# What steps are counted in.
STEP = "evaluations"


class WandB(Tracker):
    """WANDB_MODE, WANDB_PROJECT and all other variables of its own hold."""

    def __init__(self, results: RunResults) -> None:
        path = results.run.path
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False) else "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=path.name,
            dir=str(path),
            mode=mode,
            config=settings_of(results),
            settings=wandb.Settings(silent=True, console="off"),
        )
        # Its own steps must never fall, and rates come later than the evaluations that they are of.
        self._run.define_metric("*", step_metric=STEP)
        here = f"{path / 'wandb'}  (wandb sync {path}/wandb/offline-run-* uploads it)"
        self.place = here if self._run.offline else str(self._run.url)

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log({STEP: point.step, **point.values})

    def close(self) -> None:
        self._run.finish()
