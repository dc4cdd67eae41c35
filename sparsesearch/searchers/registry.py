"""The registry of searchers by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from sparsesearch.allocation import ALLOCATIONS
from sparsesearch.errors import printable, problem
from sparsesearch.plugins import plugin
from sparsesearch.registry import Registry
from sparsesearch.searchers.allocation import AllocationSearcher
from sparsesearch.searchers.auto.searcher import AutoSearcher
from sparsesearch.searchers.base import Searcher, Seeds, Traits
from sparsesearch.searchers.decomposition import DecompositionSearcher
from sparsesearch.searchers.evolutionary.evolution import (
    DarwinSearcher,
    EvolutionSearcher,
    EvoPressSearcher,
    TyrSearcher,
)
from sparsesearch.searchers.evolutionary.nsga import NSGA2Searcher, NSGA3Searcher
from sparsesearch.searchers.exact.exact_searchers import DPSearcher, MILPSearcher
from sparsesearch.searchers.finercut import FinerCutSearcher
from sparsesearch.searchers.learned.registry import LEARNED
from sparsesearch.searchers.minitron import MinitronSearcher
from sparsesearch.searchers.optuna import SAMPLERS
from sparsesearch.searchers.random import RandomSearcher
from sparsesearch.space import Space

# Prefix of searchers that measure closed-form allocations.
ALLOCATION = "allocation:"


def _allocations() -> dict[str, type[Searcher]]:
    return {f"{ALLOCATION}{name}": AllocationSearcher for name in ALLOCATIONS}


SEARCHERS: Registry[type[Searcher]] = Registry(
    "searcher",
    {
        "auto": AutoSearcher,
        "random": RandomSearcher,
        "evolution": EvolutionSearcher,
        "evopress": EvoPressSearcher,
        "darwin": DarwinSearcher,
        "tyr": TyrSearcher,
        "minitron": MinitronSearcher,
        "nsga2": NSGA2Searcher,
        "nsga3": NSGA3Searcher,
        "decomposition": DecompositionSearcher,
        "dp": DPSearcher,
        "milp": MILPSearcher,
        "finercut": FinerCutSearcher,
        **LEARNED,
        **{f"optuna:{name}": sampler for name, sampler in SAMPLERS.items()},
    },
    base=Searcher,
    listed="searchers",
    derived=_allocations,
)


def searcher(name: str) -> Callable[[type[Searcher]], type[Searcher]]:
    """Return a decorator that registers a subclass of `Searcher` by name."""
    return SEARCHERS.register(name)


def options_of(name: str, options: dict[str, Any]) -> Searcher.Options:
    """Return validated options of a searcher; raises InputError SS101 or SS102."""
    cls = SEARCHERS.find(name, key="search.searcher").Options
    try:
        return cls(**options)
    except ValidationError as error:
        first = error.errors()[0]
        key = printable(".".join(map(str, first["loc"])), 200) or "options"
        place = f"search.options.{key} of {name}"
        if first["type"] == "extra_forbidden":
            allowed = list(cls.model_fields) or ["none"]
            raise problem("SS101", f"{place}: unknown key.", got=key, allowed=allowed) from None
        raise problem("SS101", f"{place}: {first['msg'].removeprefix('Value error, ')}") from None


def create(
    name: str,
    space: Space,
    objectives: Sequence[str],
    seed: int,
    options: dict[str, Any],
    seeds: Seeds | None = None,
) -> Searcher:
    """Return a new searcher by name; raises InputError SS101 or SS102, or if it cannot take the space."""
    validated = options_of(name, options)
    with plugin(f"searcher {name!r}"):
        return SEARCHERS[name](space, objectives, seed, validated, seeds)


def describe(name: str, space: Space, objectives: Sequence[str], options: dict[str, Any]) -> Traits:
    """Return the traits of a searcher on a space; raises InputError SS101 or SS102, or if it cannot take the space."""
    validated = options_of(name, options)
    with plugin(f"searcher {name!r}"):
        return SEARCHERS[name].describe(space, objectives, validated)
