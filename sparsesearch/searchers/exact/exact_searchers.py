"""Exact solutions of the additive model as searchers: measure units pruned alone, solve, measure the solutions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from sparsesearch.config.base import LARGEST, MANY
from sparsesearch.searchers.base import Searcher
from sparsesearch.searchers.exact.additive import Table, probe_proposals, table_of
from sparsesearch.searchers.exact.dynamic_program import DynamicProgram
from sparsesearch.searchers.exact.integer_program import IntegerProgram
from sparsesearch.searchers.exact.solvers import Solver, limits_between
from sparsesearch.searchers.option_types import SelectionTokens
from sparsesearch.searchers.records import Evaluation, Proposal
from sparsesearch.space import Genome

# Standard deviation of the logarithm of the factors by which variants at one limit perturb harms.
LOG_PERTURBATION_STD = 0.3


class ExactSearcher(Searcher):
    """Least predicted loss at many sizes and at the limits, as the sum of the losses of each unit pruned alone."""

    class Options(Searcher.Options):
        probes: int = Field(
            4,
            ge=1,
            le=MANY,
            description="Number of levels of each unit, evenly spread, that are measured with all other units dense; "
            "losses of the other levels are interpolated.",
        )
        probe_tokens: int = Field(
            1024, ge=0, le=LARGEST, description="Selection tokens of each of these measurements; 0: all there are."
        )
        sizes: int = Field(
            8,
            ge=0,
            le=MANY,
            description="Number of sizes that are solved for, between the smallest genome and the limits (or dense).",
        )
        variants: int = Field(
            4, ge=0, le=MANY, description="Number of further solutions at the limits, for perturbed losses."
        )
        tokens: SelectionTokens = 0

    options: Options
    ends_by_itself = True
    solver: Solver
    origin: ClassVar[str]

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        options = self.options
        if index == 0:
            return self.starting_proposals(0, options.tokens)
        if index == 1:
            return probe_proposals(self.space, options.probes, options.probe_tokens, 0)
        if index == 2:
            cost = self.objectives[1]
            genomes = exact_solutions(self.solver, self.table, cost, options.sizes, options.variants, rng)
            return [Proposal(genome, options.tokens, 0, self.origin) for genome in genomes]
        return []

    def learn(self, evaluations: list[Evaluation]) -> None:
        if self.generation_count == 2:
            self.table = table_of(self.space, evaluations)


class DPSearcher(ExactSearcher):
    """Dynamic programming over the loss in quality of each unit pruned alone; limits on one cost."""

    origin = "dp"

    def check(self) -> None:
        self.solver = DynamicProgram(self.space)


class MILPSearcher(ExactSearcher):
    """Integer programming (HiGHS) over the loss in quality of each unit pruned alone; any limits."""

    origin = "milp"

    def check(self) -> None:
        self.solver = IntegerProgram(self.space)


def exact_solutions(
    solver: Solver, table: Table, cost: str, sizes: int, variants: int, rng: np.random.Generator
) -> list[Genome]:
    """Return distinct solutions at the limits of the solver's space, at smaller sizes, and for perturbed tables.

    Args:
        solver: the solver of a space.
        table: the harm of each unit's levels.
        cost: cost of the sizes if the space has no limits; else it is the first limit's.
        sizes: number of sizes between the smallest genome and dense, or the first limit.
        variants: number of solutions at the limits for perturbed tables.
    """
    space = solver.space
    cost = space.bounds[0].cost if space.bounds else cost
    first_limit, limits = list(space.limits[:1]), limits_between(space, cost, sizes)
    genomes = solver.solve(table, limits) if limits else []
    for _ in range(variants if first_limit else 0):
        perturbed_table = [harm * rng.lognormal(0.0, LOG_PERTURBATION_STD) for harm in table]
        genomes += solver.solve(perturbed_table, first_limit)
    return list(dict.fromkeys(genomes))
