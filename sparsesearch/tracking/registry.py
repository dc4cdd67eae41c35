"""Which trackers there are, by name."""

from __future__ import annotations

import importlib
import importlib.util

from sparsesearch.errors import EnvironmentProblem, InputError, did_you_mean
from sparsesearch.runs.results import RunResults
from sparsesearch.tracking.base import Tracker

# Name: the module that it needs, and the class here.
TRACKERS = {
    "tensorboard": ("tensorboardX", "tensorboard:TensorBoard"),
    "mlflow": ("mlflow", "mlflow:MLflow"),
    "wandb": ("wandb", "wandb:WandB"),
}


def open_tracker(name: str, results: RunResults) -> Tracker:
    """A tracker of a run; raises InputError SS102, EnvironmentProblem SS307 where its extra is not installed."""
    if name not in TRACKERS:
        raise InputError("SS102", f"--to {name!r}: {did_you_mean(name, TRACKERS)}Allowed: {', '.join(TRACKERS)}.")
    needed, where = TRACKERS[name]
    if importlib.util.find_spec(needed) is None:
        raise EnvironmentProblem("SS307", f"--to {name} needs {needed}.", f"pip install 'sparsesearch[{name}]'")
    module, _, attribute = where.partition(":")
    cls: type[Tracker] = getattr(importlib.import_module(f"sparsesearch.tracking.{module}"), attribute)
    return cls(results)
