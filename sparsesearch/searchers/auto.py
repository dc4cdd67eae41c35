"""NSGA-II that starts from exact solutions of the additive model and measures only the children that promise most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from sparsesearch.searchers.additive import Floats, alone, table_of
from sparsesearch.searchers.base import Evaluation, Proposal, Searcher, Seeds, rank
from sparsesearch.searchers.exact import pool
from sparsesearch.searchers.nsga import NSGA2Searcher
from sparsesearch.searchers.solvers import solver_of
from sparsesearch.searchers.surrogate import Surrogate
from sparsesearch.space import Genome, Space
from sparsesearch.space.cost import cost_index

# The draw on which units are measured alone.
ALONE = 1


class AutoSearcher(NSGA2Searcher):
    """NSGA-II from exact solutions of an additive model, with a surrogate that chooses which children to measure."""

    class Options(NSGA2Searcher.Options):
        # Levels of each unit that are measured alone; 0 for no additive model and no exact solutions.
        probes: int = Field(2, ge=0)
        # Selection tokens of such a measurement.
        probe_tokens: int = Field(1024, ge=0)
        # Sizes of exact solutions, and variants of them at the limits.
        solutions: int = Field(16, ge=0)
        variants: int = Field(8, ge=0)
        # Children for each one that is measured; 1 for no surrogate.
        oversample: int = Field(16, ge=1)

    options: Options

    def __init__(
        self, space: Space, objectives: Any, seed: int, options: Searcher.Options, seeds: Seeds | None = None
    ) -> None:
        super().__init__(space, objectives, seed, options, seeds)
        self.surrogate = Surrogate(space)
        self._expected: Floats | None = None

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        if index == 0 and self.options.probes:
            known = [Proposal(g, self.options.tokens, 0, name) for name, g in self.start.items()]
            return known + alone(self.space, self.options.probes, self.options.probe_tokens, ALONE)
        return super().generation(index, rng)

    def learn(self, evaluations: list[Evaluation]) -> None:
        if self._algorithm is None:
            self._learn_alone([e for e in evaluations if e.draw == ALONE])
            return
        if self._expected is not None:
            found = {e.genome: e for e in evaluations}
            asked = [rank(found[Genome.of(row)]) for row in self._asked.get("X")]
            measured = np.isfinite(asked)
            self.surrogate.judge(self._expected[measured], np.array(asked)[measured])
        super().learn(evaluations)
        known = [e for e in self.best.values() if rank(e) != float("inf")]
        self.surrogate.fit([e.genome for e in known], [max(e.quality, 0.0) for e in known])

    def _learn_alone(self, evaluations: Sequence[Evaluation]) -> None:
        """The additive model, and its solutions as seeds."""
        table = table_of(self.space, evaluations)
        self.surrogate = Surrogate(self.space, table)
        rng = np.random.default_rng([self.seed, ALONE])
        solver, options = solver_of(self.space), self.options
        solutions = pool(solver, table, self.objectives[1], options.solutions, options.variants, rng)
        names = {f"exact {i}": genome for i, genome in enumerate(solutions) if genome not in self.start.values()}
        self.start |= names
        self.seeds += list(names.values())

    def _begin(self, offspring: int) -> Any:
        return super()._begin(offspring * self.options.oversample)

    def _ask(self) -> Any:
        children = super()._ask()
        self._expected = None
        wanted = self.options.offspring
        if children is None or self._algorithm.n_iter in (None, 1) or len(children) <= wanted:
            return children
        genomes = [Genome.of(row) for row in children.get("X")]
        if not self.surrogate.trusted:
            chosen = np.arange(wanted)
        else:
            chosen = self._promising(genomes, wanted)
            self._expected = self.surrogate.predict([genomes[i] for i in chosen])
        return children[chosen]

    def _promising(self, genomes: list[Genome], wanted: int) -> Any:
        """For each of as many sizes as are wanted, the child that is predicted to be the best there."""
        quality = self.surrogate.predict(genomes)
        totals = self.space.costs.totals(np.stack([genome.levels for genome in genomes]))
        costs = totals[:, cost_index(self.objectives[1])]
        by_size = np.array_split(np.argsort(costs, kind="stable"), wanted)
        return np.array([group[quality[group].argmin()] for group in by_size])
