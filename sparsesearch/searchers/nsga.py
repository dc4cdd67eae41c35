"""NSGA-II (Deb et al., 2002) on pymoo: one run covers the whole range of sizes.

pymoo sorts, crowds and mates; sampling, crossover, mutation and repair are the space's own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.crossover import Crossover
from pymoo.core.evaluator import Evaluator
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.core.sampling import Sampling
from pymoo.core.termination import NoTermination
from pymoo.problems.static import StaticProblem

from sparsesearch.searchers.base import WORST, Evaluation, Proposal, Searcher, Seeds, rank
from sparsesearch.searchers.operators import cross, shift, switch
from sparsesearch.space import Genome, Space
from sparsesearch.space.repair import repair
from sparsesearch.space.sampling import random_genome

Matrix = npt.NDArray[np.int64]


class NSGA2Searcher(Searcher):
    """NSGA-II over all objectives: the whole range of sizes in one run."""

    class Options(Searcher.Options):
        population: int = Field(40, ge=4)
        offspring: int = Field(24, ge=1)
        # Selection tokens a candidate; 0 is all of them.
        tokens: int = Field(2048, ge=0)
        # Sizes of uniform genomes, and of allocations among `search.seeds`, in generation 0.
        sizes: int = Field(8, ge=0)
        # Chance that a child is crossed before it mutates.
        crossover: float = Field(0.7, ge=0, le=1)

    options: Options

    def __init__(self, space: Space, objectives: Any, seed: int, options: Any, seeds: Seeds | None = None) -> None:
        super().__init__(space, objectives, seed, options, seeds)
        self.start = self.starting(self.options.sizes)
        # Dense counts although it may exceed the limits; pymoo's repair would shrink it, so it is kept apart.
        self.seeds = [genome for genome in self.start.values() if space.feasible(genome)]
        self._problem = Problem(
            n_var=len(space.units), n_obj=len(self.objectives), xl=0, xu=space.max_levels, vtype=int
        )
        self._algorithm: Any = None
        self._asked: Any = None

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        first = self._algorithm is None
        if first:
            self._algorithm = self._begin(self.options.offspring)
        self._asked = self._ask()
        if self._asked is None or len(self._asked) == 0:
            return []
        names = {genome: name for name, genome in self.start.items()}
        genomes = [Genome.of(row) for row in self._asked.get("X")]
        if first:
            genomes += [g for g in self.start.values() if g not in genomes]
        return [Proposal(g, self.options.tokens, 0, names.get(g, "random" if first else "offspring")) for g in genomes]

    def _begin(self, offspring: int) -> Any:
        """The algorithm, whose first population holds the seeds."""
        algorithm = NSGA2(
            pop_size=max(self.options.population, len(self.seeds)),
            n_offsprings=offspring,
            sampling=_Sampling(self.space, self.seeds),
            crossover=_Crossover(self.space, self.options.crossover),
            mutation=_Mutation(self.space),
            repair=_Repair(self.space),
        )
        algorithm.setup(self._problem, termination=NoTermination(), seed=self.seed)
        return algorithm

    def _ask(self) -> Any:
        """The next population to measure; None or empty where pymoo finds no genome that it has not seen."""
        return self._algorithm.ask()

    def learn(self, evaluations: list[Evaluation]) -> None:
        found = {e.genome: e for e in evaluations}
        table = np.array([self._scaled(found[Genome.of(row)]) for row in self._asked.get("X")])
        Evaluator().eval(StaticProblem(self._problem, F=table), self._asked)
        self._algorithm.tell(infills=self._asked)

    def _scaled(self, evaluation: Evaluation) -> list[float]:
        if rank(evaluation) == float("inf"):
            return [WORST] * len(self.objectives)
        quality, *costs = self.point(evaluation)
        # Monotone, so dominance is untouched; the square root keeps crowding from favouring ruined candidates.
        return [max(quality, 0.0) ** 0.5, *costs]


class _Sampling(Sampling):
    def __init__(self, space: Space, seeds: list[Genome]) -> None:
        super().__init__()
        self.space, self.seeds = space, seeds

    def _do(self, problem: Any, n_samples: int, *_: Any, random_state: Any = None, **__: Any) -> Matrix:
        drawn = [random_genome(self.space, random_state) for _ in range(n_samples - len(self.seeds))]
        return np.array([g.levels for g in [*self.seeds, *drawn]], dtype=np.int64)


class _Crossover(Crossover):
    def __init__(self, space: Space, prob: float) -> None:
        super().__init__(n_parents=2, n_offsprings=1, prob=prob)
        self.space = space

    def _do(self, problem: Any, X: Matrix, *_: Any, random_state: Any = None, **__: Any) -> Matrix:
        children = [
            cross(self.space, Genome.of(a), Genome.of(b), random_state).levels for a, b in zip(X[0], X[1], strict=True)
        ]
        return np.array(children, dtype=np.int64)[None]


class _Mutation(Mutation):
    def __init__(self, space: Space) -> None:
        super().__init__(prob=1.0)
        self.space = space

    def _do(self, problem: Any, X: Matrix, *_: Any, random_state: Any = None, **__: Any) -> Matrix:
        moves = [switch if random_state.random() < 0.5 else shift for _ in X]
        children = [move(self.space, Genome.of(row), random_state).levels for move, row in zip(moves, X, strict=True)]
        return np.array(children, dtype=np.int64)


class _Repair(Repair):
    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    def _do(self, problem: Any, X: Matrix, random_state: Any = None, **_: Any) -> Matrix:
        return np.array([repair(self.space, Genome.of(row), random_state).levels for row in X], dtype=np.int64)
