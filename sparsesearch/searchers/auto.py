"""NSGA-II that starts from exact solutions of the additive model and measures only the children that promise most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from sparsesearch.searchers.additive import alone, table_of
from sparsesearch.searchers.base import Evaluation, Proposal, Searcher, Seeds, rank
from sparsesearch.searchers.exact import pool
from sparsesearch.searchers.nsga import NSGA2Searcher
from sparsesearch.searchers.solvers import solver_of
from sparsesearch.searchers.surrogate import Surrogate
from sparsesearch.space import Genome, Space
from sparsesearch.space.cost import cost_index

# The draw on which units are measured alone: none that a population is measured on.
ALONE = 2**31


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
        # What was predicted of children that are being measured, and of those that were.
        self._expected: dict[Genome, float] = {}
        self._compared: list[tuple[float, float]] = []

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        if index == 0 and self.options.probes:
            known = [Proposal(g, self.options.tokens, 0, name) for name, g in self.start.items()]
            return known + alone(self.space, self.options.probes, self.options.probe_tokens, ALONE)
        return super().generation(index, rng)

    def learn(self, evaluations: list[Evaluation]) -> None:
        if self._algorithm is None:
            self._learn_alone([e for e in evaluations if e.draw == ALONE])
            return
        for evaluation in evaluations:
            if rank(evaluation) != float("inf") and evaluation.genome in self._expected:
                self._compared.append((self._expected.pop(evaluation.genome), evaluation.quality))
        super().learn(evaluations)

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

    def _children(self) -> int:
        return self.options.offspring * self.options.oversample

    def _ask(self) -> Any:
        children = super()._ask()
        if children is None or not self.begun or len(children) <= self.options.offspring:
            return children
        self._improve()
        if not self.surrogate.trusted:
            return children[: self.options.offspring]
        genomes = [Genome.of(row) for row in children.get("X")]
        chosen = self._promising(genomes, self.options.offspring)
        predicted = self.surrogate.predict([genomes[i] for i in chosen])
        self._expected |= {genomes[i]: float(p) for i, p in zip(chosen, predicted, strict=True)}
        return children[chosen]

    def _improve(self) -> None:
        """Judge the surrogate by what was measured since it was asked last, and let it learn all there is."""
        if len(self._compared) >= min(8, self.options.offspring):
            self.surrogate.judge(*np.array(self._compared).T)
            self._compared = []
        known = [e for e in self.best.values() if rank(e) != float("inf")]
        self.surrogate.fit([e.genome for e in known], [max(e.quality, 0.0) for e in known])

    def _promising(self, genomes: list[Genome], wanted: int) -> Any:
        """For each of as many sizes as are wanted, the child that is predicted to be the best there."""
        quality = self.surrogate.predict(genomes)
        totals = self.space.costs.totals(np.stack([genome.levels for genome in genomes]))
        costs = totals[:, cost_index(self.objectives[1])]
        by_size = np.array_split(np.argsort(costs, kind="stable"), wanted)
        return np.array([group[quality[group].argmin()] for group in by_size])

    def report(self) -> dict[str, float]:
        correlation = self.surrogate.correlation
        own = {} if correlation is None else {"surrogate rank correlation": correlation}
        return super().report() | own
