"""The methods by name: each module of `methods` registers its own, plug-ins register theirs."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from sparsesearch.bilevel import methods
from sparsesearch.bilevel.base import LEARNERS as LEARNERS
from sparsesearch.bilevel.base import Learner
from sparsesearch.bilevel.relaxed import RelaxedNetwork
from sparsesearch.plugins import plugin
from sparsesearch.supernet.store import UnitFiles

for _module in pkgutil.iter_modules(methods.__path__, f"{methods.__name__}."):
    importlib.import_module(_module.name)


def learner_class(method: str) -> type[Learner]:
    """Return the class of a method; raises InputError SS102."""
    return LEARNERS.find(method)


def create_learner(
    method: str, relaxed: RelaxedNetwork, files: UnitFiles, options: Any, seed: int, pattern: str | None = None
) -> Learner:
    """Create the learner of a method; arguments as those of `Learner`.

    Args:
        pattern: N:M of the recipe, for methods that take it.

    Raises InputError SS102 for an unknown method, SS127 from a plug-in's constructor.
    """
    make: Callable[..., Learner] = learner_class(method)
    patterns = (pattern,) if learner_class(method).takes_pattern else ()
    with plugin(f"learner {method!r}"):
        return make(relaxed, files, options, seed, *patterns)
