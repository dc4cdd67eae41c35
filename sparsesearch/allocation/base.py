"""Allocations by name: `allocation` registers one, `allocation_named` looks one up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from sparsesearch.allocation.adapt_pruner import adapt_pruner
from sparsesearch.allocation.alpha_pruning import alpha_pruning
from sparsesearch.allocation.block_influence import block_influence
from sparsesearch.allocation.cfsp import cfsp
from sparsesearch.allocation.ecoflap import ecoflap
from sparsesearch.allocation.erk import erk
from sparsesearch.allocation.global_magnitude import global_magnitude
from sparsesearch.allocation.lamp import lamp
from sparsesearch.allocation.owl import owl
from sparsesearch.allocation.pq_index import pq_index
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence
from sparsesearch.allocation.uniform import uniform, uniform_plus
from sparsesearch.arrays import Floats
from sparsesearch.errors import problem
from sparsesearch.plugins import plugin, wrong_return_value
from sparsesearch.registry import Registry

# (evidence, share of all weights removed in [0, 1], options) -> density of each matrix (M,) in [0, 1], whose total
# meets the sparsity to within one weight
Densities = Callable[[Evidence, float, AllocationConfig], Floats]


# Fields of `Evidence` that are measured only for the rules that need them.
MEASURED = tuple(field.name for field in fields(Evidence) if field.default is None)


@dataclass(frozen=True)
class Allocation:
    """A closed-form rule.

    Attributes:
        densities: the rule, a pure function.
        needs: fields of `Evidence` that must be measured for it, of those in `MEASURED`.
    """

    densities: Densities
    needs: tuple[str, ...] = ()


ALLOCATIONS: Registry[Allocation] = Registry(
    "allocation",
    {
        "uniform": Allocation(uniform),
        "uniform_plus": Allocation(uniform_plus),
        "erk": Allocation(erk),
        "global_magnitude": Allocation(global_magnitude, ("magnitudes",)),
        "lamp": Allocation(lamp, ("lamp_thresholds",)),
        "pq_index": Allocation(pq_index, ("pq_index",)),
        "alpha_pruning": Allocation(alpha_pruning, ("tail_exponent",)),
        "owl": Allocation(owl, ("outliers",)),
        "cfsp": Allocation(cfsp, ("angles",)),
        "adapt_pruner": Allocation(adapt_pruner, ("cosines",)),
        "block_influence": Allocation(block_influence, ("cosines",)),
        "ecoflap": Allocation(ecoflap, ("gradient_square",)),
    },
    listed="allocations",
)


def allocation(name: str, needs: Sequence[str] = ()) -> Callable[[Densities], Densities]:
    """Register a rule of your own; it can be a seed (`search.seeds`) and a searcher (`allocation:NAME`).

    The rule is f(evidence, sparsity, options): the density of each matrix, float64 (M,) in [0, 1], whose total meets
    the share of all weights that is removed, `sparsity` in [0, 1], to within one weight (`project` sees to that).

    Args:
        needs: what must be measured for it, of `MEASURED`.

    Raises InputError SS127 for a need that is no such field.
    """
    for need in needs:
        if need not in MEASURED:
            what = f"allocation {name!r} needs {need!r}, which no evidence has"
            raise problem("SS127", what, got=need, allowed=MEASURED, fix="Correct it.")
    return ALLOCATIONS.register(name, lambda rule: Allocation(rule, tuple(needs)))


def allocation_named(name: str) -> Allocation:
    """Return the allocation of a name; raises InputError SS102."""
    return ALLOCATIONS.find(name)


def densities_by_name(name: str, evidence: Evidence) -> Callable[[float], dict[str, float]]:
    """Return a rule as `at_limits` takes it, from a sparsity in [0, 1] to the density of each unit in [0, 1].

    Raises InputError SS102, or from the rule SS127 if it returns something else than densities.
    """
    rule, options = allocation_named(name).densities, AllocationConfig()

    def densities(sparsity: float) -> dict[str, float]:
        with plugin(f"allocation {name!r}"):
            density = rule(evidence, sparsity, options)
        if not _are_densities(density, len(evidence.names)):
            raise wrong_return_value(
                f"allocation {name!r}", density, f"{len(evidence.names)} densities from 0 to 1, as an array"
            )
        return dict(zip(evidence.names, density.tolist(), strict=True))

    return densities


def _are_densities(values: object, count: int) -> bool:
    if not isinstance(values, np.ndarray) or values.shape != (count,) or values.dtype.kind != "f":
        return False
    return bool(((values >= 0) & (values <= 1)).all())
