"""Which trackers there are, by name."""

from __future__ import annotations

import importlib
import importlib.util

from sparsesearch.errors import problem
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
        raise problem("SS102", f"--to {name!r}.", got=name, allowed=TRACKERS)
    needed, where = TRACKERS[name]
    if importlib.util.find_spec(needed) is None:
        raise problem("SS307", f"--to {name} needs {needed}.", fix=f"pip install 'sparsesearch[{name}]'")
    module, _, attribute = where.partition(":")
    cls: type[Tracker] = getattr(importlib.import_module(f"sparsesearch.tracking.{module}"), attribute)
    return cls(results)
