"""Trackers by name: `tracker` registers one, `open_tracker` opens one for a run."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from sparsesearch.errors import problem
from sparsesearch.plugins import load_plugins, plugin
from sparsesearch.registry import Registry
from sparsesearch.runs.results import RunResults
from sparsesearch.tracking.base import Tracker


@dataclass(frozen=True)
class TrackerSource:
    """Where a tracker comes from.

    Attributes:
        load: imports and returns its class.
        package: module that it needs; '' for none.
        extra: extra of sparsesearch that installs the package; '' for none.
    """

    load: Callable[[], type[Tracker]]
    package: str = ""
    extra: str = ""


def _own(package: str, module: str, name: str) -> TrackerSource:
    def load() -> type[Tracker]:
        cls: type[Tracker] = getattr(importlib.import_module(f"sparsesearch.tracking.{module}"), name)
        return cls

    return TrackerSource(load, package, module)


# Modules of trackers are imported when one is opened: their packages are large, and some are not installed.
TRACKERS: Registry[TrackerSource] = Registry(
    "tracker",
    {
        "tensorboard": _own("tensorboardX", "tensorboard", "TensorBoard"),
        "mlflow": _own("mlflow", "mlflow", "MLflow"),
        "wandb": _own("wandb", "wandb", "WandB"),
    },
    base=Tracker,
)


def tracker(name: str, package: str = "") -> Callable[[type[Tracker]], type[Tracker]]:
    """Register a subclass of `Tracker` of your own.

    Args:
        package: top-level module that it needs, which is looked for before it is opened.
    """
    return TRACKERS.register(name, lambda cls: TrackerSource(lambda: cls, package))


def open_tracker(name: str, results: RunResults) -> Tracker:
    """Return a tracker of a run, of sparsesearch, of this process or of an installed plug-in.

    Raises InputError SS102 for an unknown name, SS127 from a plug-in's constructor, EnvironmentProblem SS307 if its
    package is not installed.
    """
    if name not in TRACKERS:
        load_plugins()
    source = TRACKERS.find(name, key="to (--to)")
    if source.package and importlib.util.find_spec(source.package) is None:
        extra = f"pip install 'sparsesearch[{source.extra}]'" if source.extra else f"Install {source.package}."
        raise problem("SS307", f"tracker {name} (--to) needs {source.package}.", fix=extra)
    with plugin(f"tracker {name!r}"):
        return source.load()(results)
