"""What an allocation is, and which there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

# (evidence, share of all weights removed in [0, 1], options) -> density of each matrix (M,) in [0, 1], whose total
# meets the sparsity to within one weight
Densities = Callable[[Evidence, float, AllocationConfig], Floats]


@dataclass(frozen=True)
class Allocation:
    """A closed-form rule.

    Attributes:
        densities: the rule, a pure function.
        needs: fields of `Evidence` that must be measured for it.
    """

    densities: Densities
    needs: tuple[str, ...] = ()


ALLOCATIONS: dict[str, Allocation] = {
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
}


def densities_by_name(name: str, evidence: Evidence) -> Callable[[float], dict[str, float]]:
    """A rule as `genome_at_limits` takes it, from a sparsity to the density of each unit; raises InputError SS102."""
    rule, options = allocation(name).densities, AllocationConfig()
    return lambda sparsity: dict(zip(evidence.names, rule(evidence, sparsity, options).tolist(), strict=True))


def allocation(name: str) -> Allocation:
    """The allocation of that name; raises InputError SS102."""
    if name not in ALLOCATIONS:
        raise problem(
            "SS102",
            f"allocation {name!r} not found.",
            got=name,
            allowed=ALLOCATIONS,
        )
    return ALLOCATIONS[name]
