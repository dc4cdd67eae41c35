"""Qualities by name: the first objective of a search, and what it keeps of the dense model."""

from __future__ import annotations

from collections.abc import Callable

from sparsesearch.errors import problem
from sparsesearch.evaluation.targets import Cosine, Distance, Errors, HiddenStates, NextToken, Targets
from sparsesearch.evaluation.teacher import SparseTeacher, Teacher
from sparsesearch.models.task import TASKS, Task
from sparsesearch.registry import Registry

QUALITIES: Registry[type[Targets]] = Registry(
    "quality",
    {
        "kl": Teacher,
        "sparse_kl": SparseTeacher,
        "perplexity": NextToken,
        "distance": Distance,
        "error": Errors,
        "cosine": Cosine,
        "hidden": HiddenStates,
    },
    base=Targets,
)
# Name of the objective that a function given from Python measures: (model, samples) -> loss, lower is better, of each
# sample or of all.
USER_QUALITY = "quality"


def quality(name: str) -> Callable[[type[Targets]], type[Targets]]:
    """Register a subclass of `Targets` of your own as a quality; its `tasks` say which networks it can judge.

    Raises InputError SS127 for a class without tasks, or with an unknown one.
    """
    register = QUALITIES.register(name)

    def decorate(cls: type[Targets]) -> type[Targets]:
        for task in getattr(cls, "tasks", ()) or ("",):
            if task not in TASKS:
                what = f"quality {name!r}: `tasks` of {cls.__qualname__} names {task!r}, which is no task"
                raise problem("SS127", what, got=task, allowed=TASKS, fix="Name those that it can judge.")
        return register(cls)

    return decorate


def quality_class(name: str) -> type[Targets]:
    """Return the class of a quality; of the user's own function, one that keeps nothing but the samples.

    Raises InputError SS102 for an unknown name.
    """
    return Targets if name == USER_QUALITY else QUALITIES.find(name, key="objectives[0]")


def qualities_of(task: Task) -> tuple[str, ...]:
    """Return the names of the qualities that networks of a task can be judged by, the default first."""
    return tuple(name for name, cls in QUALITIES.items() if task.name in cls.tasks)
