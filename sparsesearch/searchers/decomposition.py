"""Search parts of the network by themselves, join their fronts, and go on from there with NSGA-II.

Evolutionary multi-objective pruning by decomposition (EMO-PMS): a front is searched for each group of blocks while all
others are dense; harms of different groups are taken to add up, so that dynamic programming joins the fronts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field

from sparsesearch.config.base import MANY
from sparsesearch.searchers.base import Searcher, Seeds, rank
from sparsesearch.searchers.evolutionary.nsga import NSGA2Searcher
from sparsesearch.searchers.exact.solvers import Front, cheapest, clusters, frontier, limits_between, one_cost
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
        self._groups = [Group(self, number, units) for number, units in enumerate(_split(space, self.options.groups))]

    def check(self) -> None:
        one_cost(self.space)

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        if index <= self.options.rounds:
            known = self._start_proposals(self.options.tokens) if index == 0 else []
            return [*(proposal for group in self._groups for proposal in group.ask()), *known]
        return super().generation(index, rng)

    def learn(self, evaluations: list[Evaluation]) -> None:
        if self._algorithm is not None:
            super().learn(evaluations)
            return
        for group in self._groups:
            group.tell(evaluations)
        if self.index == self.options.rounds + 1:
            self._join()

    def _join(self) -> None:
        """Joined fronts as seeds."""
        space = self.space
        cost = one_cost(space) or self.objectives[1]
        limits = limits_between(space, cost, self.options.solutions)
        fronts = [front for group in self._groups if (front := group.front(cost)) is not None]
        # Where all candidates of a group failed there is nothing to join.
        complete = len(fronts) == len(self._groups)
        joined = cheapest(space, fronts, space.dense_costs[cost], self._met(fronts, cost, limits)) if complete else []
        names = {f"joined {i}": g for i, g in enumerate(dict.fromkeys(joined)) if g not in self.start.values()}
        self.start |= names
        self.seeds += list(names.values())

    def _met(self, fronts: list[Front], cost: str, limits: list[Limit]) -> list[Limit]:
        """The limits that joined fronts can meet: what a group's search has not seen may be smaller."""
        dense = self.space.dense_costs
        smallest = dense[cost] + sum(int(front.cost[0]) for front in fronts)
        return [limit for limit in limits if limit.bound(dense, self.space.prunable).maximum >= smallest]


class Group:
    """The search of some units while all others are dense."""

    def __init__(self, whole: DecompositionSearcher, number: int, units: list[int]) -> None:
        self.space, self.units = whole.space, units
        options = whole.options
        own = NSGA2Searcher.Options(
            population=options.group_population, offspring=options.group_offspring, tokens=options.tokens, sizes=4
        )
        self.search = NSGA2Searcher(_part_of(whole.space, units), whole.objectives, whole.seed + number, own)

    def ask(self) -> list[Proposal]:
        return [
            replace(
                p,
                genome=self._whole(p.genome),
                origin="group",
                parents=tuple(map(self._whole, p.parents)),
                role="search",
            )
            for p in self.search.ask()
        ]

    def tell(self, evaluations: list[Evaluation]) -> None:
        """Take in evaluations of whole genomes, of which some are this group's."""
        others = np.delete(np.arange(len(self.space.units)), self.units)
        own = [e for e in evaluations if not e.genome.levels[others].any()]
        self.search.tell([replace(e, genome=Genome.of(e.genome.levels[self.units])) for e in own])

    def front(self, cost: str) -> Front | None:
        """What the group's levels cost, relative to dense, and the quality they were measured at."""
        known = [e for e in self.search.best.values() if rank(e) != float("inf")]
        if not known:
            return None
        levels = np.array([e.genome.levels for e in known], dtype=np.int64)
        whole = np.zeros((len(levels), len(self.space.units)), dtype=np.int64)
        whole[:, self.units] = levels
        costs = self.space.costs.totals(whole)[:, cost_index(cost)] - self.space.dense_costs[cost]
        return frontier(self.units, levels, costs, np.array([e.quality for e in known]))

    def _whole(self, genome: Genome) -> Genome:
        levels = np.zeros(len(self.space.units), dtype=np.int64)
        levels[self.units] = genome.levels
        return Genome.of(levels)


def _split(space: Space, count: int) -> list[list[int]]:
    """Units in up to `count` groups of about as many in a row; those that share tensors stay together."""
    together = sorted((sorted(joint.units) for joint in clusters(space)), key=lambda units: units[0])
    ends = np.cumsum([len(units) for units in together])
    group = np.minimum((ends - 1) * count // ends[-1], count - 1)
    found = [[u for units, g in zip(together, group, strict=True) if g == i for u in units] for i in range(count)]
    return [sorted(units) for units in found if units]


def _part_of(space: Space, units: list[int]) -> Space:
    """The units alone, with the tensors that they touch."""
    own = {space.units[u].name for u in units}
    parts = [part for part in space.parts if own & {*part.cuts, part.sparsity, part.drop}]
    return Space(tuple(space.units[u] for u in units), tuple(parts), space.bytes_per_weight)
