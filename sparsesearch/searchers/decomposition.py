"""Search groups of blocks separately, join their fronts, and continue from there with NSGA-II.

Evolutionary multi-objective pruning by decomposition (EMO-PMS): a front is searched for each group of blocks while all
others are dense; harms of different groups are assumed to add up, so that dynamic programming joins the fronts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from sparsesearch.config.base import MANY
from sparsesearch.searchers.base import Searcher, Seeds, rank
from sparsesearch.searchers.evolutionary.nsga import NSGA2Searcher
from sparsesearch.searchers.exact.dynamic_program import CostFront, cost_front, limited_cost, solve_fronts
from sparsesearch.searchers.exact.joint_choices import independent_groups
from sparsesearch.searchers.exact.solvers import limits_between
from sparsesearch.searchers.records import Evaluation, Proposal
from sparsesearch.space import Genome, Limit, Space
from sparsesearch.space.cost import cost_index


class DecompositionSearcher(NSGA2Searcher):
    """Fronts of groups of blocks, searched by themselves and joined exactly, seed NSGA-II; limits on one cost."""

    class Options(NSGA2Searcher.Options):
        groups: int = Field(4, ge=2, le=MANY, description="Number of groups of consecutive blocks.")
        rounds: int = Field(4, ge=1, le=MANY, description="Generations in which each group is searched by itself.")
        group_population: int = Field(12, ge=4, le=MANY, description="Size of the population of each group.")
        group_offspring: int = Field(8, ge=1, le=MANY, description="Children of each group in a generation.")
        solutions: int = Field(16, ge=0, le=MANY, description="Number of sizes at which the groups' fronts are joined.")

    options: Options

    def __init__(
        self, space: Space, objectives: Any, seed: int, options: Searcher.Options, seeds: Seeds | None = None
    ) -> None:
        super().__init__(space, objectives, seed, options, seeds)
        groups = _split(space, self.options.groups)
        self._groups = [BlockGroup(self, number, units) for number, units in enumerate(groups)]

    def check(self) -> None:
        limited_cost(self.space)

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        if index <= self.options.rounds:
            start = self._start_proposals(self.options.tokens) if index == 0 else []
            return [*(proposal for group in self._groups for proposal in group.ask()), *start]
        return super().generation(index, rng)

    def learn(self, evaluations: list[Evaluation]) -> None:
        if self._algorithm is not None:
            super().learn(evaluations)
            return
        for group in self._groups:
            group.tell(evaluations)
        if self.generation_count == self.options.rounds + 1:
            self._join()

    def _join(self) -> None:
        """Join the groups' fronts, and add the resulting genomes to the seeds."""
        space = self.space
        cost = limited_cost(space) or self.objectives[1]
        limits = limits_between(space, cost, self.options.solutions)
        fronts = [front for group in self._groups if (front := group.front(cost)) is not None]
        joined: list[Genome] = []
        if len(fronts) == len(self._groups):  # else all candidates of a group failed
            joined = solve_fronts(space, fronts, space.dense_costs[cost], self._feasible_limits(fronts, cost, limits))
        names = {f"joined {i}": g for i, g in enumerate(dict.fromkeys(joined)) if g not in self.start.values()}
        self.start |= names
        self.seeds += list(names.values())

    def _feasible_limits(self, fronts: list[CostFront], cost: str, limits: list[Limit]) -> list[Limit]:
        """Return the limits that joined fronts can meet, which hold only measured genomes."""
        dense = self.space.dense_costs
        smallest = dense[cost] + sum(int(front.cost[0]) for front in fronts)
        return [limit for limit in limits if limit.bound(dense, self.space.prunable).maximum >= smallest]


class BlockGroup:
    """Searches some units while all others are dense."""

    def __init__(self, parent: DecompositionSearcher, number: int, units: list[int]) -> None:
        self.space, self.units = parent.space, units
        options = parent.options
        group_options = NSGA2Searcher.Options(
            population=options.group_population, offspring=options.group_offspring, tokens=options.tokens, sizes=4
        )
        space = _subspace(parent.space, units)
        self.search = NSGA2Searcher(space, parent.objectives, parent.seed + number, group_options)

    def ask(self) -> list[Proposal]:
        return [
            replace(
                p,
                genome=self._in_full_space(p.genome),
                origin="group",
                parents=tuple(map(self._in_full_space, p.parents)),
                role="search",
            )
            for p in self.search.ask()
        ]

    def tell(self, evaluations: list[Evaluation]) -> None:
        """Learn from evaluations of genomes of the full space; those with other units pruned are ignored."""
        others = np.delete(np.arange(len(self.space.units)), self.units)
        evaluations_of_group = [e for e in evaluations if not e.genome.levels[others].any()]
        self.search.tell([replace(e, genome=Genome.of(e.genome.levels[self.units])) for e in evaluations_of_group])

    def front(self, cost: str) -> CostFront | None:
        """Return the front of measured levels, costs relative to dense, qualities as harms; None without any."""
        evaluations = [e for e in self.search.best.values() if rank(e) != float("inf")]
        if not evaluations:
            return None
        levels = np.array([e.genome.levels for e in evaluations], dtype=np.int64)
        full_levels = np.zeros((len(levels), len(self.space.units)), dtype=np.int64)
        full_levels[:, self.units] = levels
        costs = self.space.costs.totals(full_levels)[:, cost_index(cost)] - self.space.dense_costs[cost]
        return cost_front(self.units, levels, costs, np.array([e.quality for e in evaluations]))

    def _in_full_space(self, genome: Genome) -> Genome:
        levels = np.zeros(len(self.space.units), dtype=np.int64)
        levels[self.units] = genome.levels
        return Genome.of(levels)


def _split(space: Space, count: int) -> list[list[int]]:
    """Return units in up to `count` consecutive groups of similar size; units that share tensors stay together."""
    clusters = sorted((sorted(joint.units) for joint in independent_groups(space)), key=lambda units: units[0])
    ends = np.cumsum([len(units) for units in clusters])
    number = np.minimum((ends - 1) * count // ends[-1], count - 1)
    groups = [[u for units, n in zip(clusters, number, strict=True) if n == i for u in units] for i in range(count)]
    return [sorted(units) for units in groups if units]


def _subspace(space: Space, units: list[int]) -> Space:
    """Return the space of some units, with the tensors that they touch."""
    names = {space.units[u].name for u in units}
    parts = [part for part in space.parts if names & {*part.cuts, part.sparsity, part.drop}]
    return Space(tuple(space.units[u] for u in units), tuple(parts), space.bytes_per_weight)
