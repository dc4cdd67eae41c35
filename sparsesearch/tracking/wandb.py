"""Weights & Biases: logs to a new run of the project `sparsesearch` each time; offline if nobody is logged in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import wandb

from sparsesearch.runs.results import RunResults
from sparsesearch.tracking.base import Point, Tracker, settings_of

PROJECT = "sparsesearch"
# Name of the metric that counts steps.
STEP = "evaluations"


class WandB(Tracker):
    """Logs a run to Weights & Biases; its environment variables, such as WANDB_MODE and WANDB_PROJECT, apply."""

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
        # wandb's own steps must never fall, but rates are logged after the evaluations that they belong to.
        self._run.define_metric("*", step_metric=STEP)
        offline = f"{path / 'wandb'}  (wandb sync {path}/wandb/offline-run-* uploads it)"
        self.location = offline if self._run.offline else str(self._run.url)

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self._run.log({STEP: point.step, **point.values})

    def close(self) -> None:
        self._run.finish()
