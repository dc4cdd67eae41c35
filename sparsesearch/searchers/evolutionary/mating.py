"""pymoo's operators (sampling, crossover, mutation, repair) made of the space's moves, chosen by their success."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from pymoo.core.crossover import Crossover
from pymoo.core.mutation import Mutation
from pymoo.core.repair import Repair
from pymoo.core.sampling import Sampling

from sparsesearch.arrays import Ints
from sparsesearch.searchers.evolutionary.operators import cross, moves
from sparsesearch.space import Genome, Space
from sparsesearch.space.repair import repair
from sparsesearch.space.sampling import random_genome

# Smallest probability of a move, relative to equal probabilities.
MIN_SHARE = 0.25
# Weight of the newest child in a move's success rate.
SUCCESS_UPDATE_RATE = 0.02


class LearnedChoice:
    """Probability matching (Thierens, GECCO 2005): a move's probability is proportional to its children's survival."""

    def __init__(self, names: Iterable[str]) -> None:
        # Equal at first, and well above the later rates, so that each move is tried.
        self.success = dict.fromkeys(names, 0.5)

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each move by name."""
        least, total = MIN_SHARE / len(self.success), sum(self.success.values())
        return {name: least + (1 - MIN_SHARE) * rate / total for name, rate in self.success.items()}

    def learn(self, name: str, survived: bool) -> None:
        """Update a move's success rate by one child."""
        self.success[name] += SUCCESS_UPDATE_RATE * (max(float(survived), 1e-3) - self.success[name])


class SpaceSampling(Sampling):
    """Samples the seeds, then random genomes of all sizes."""

    def __init__(self, space: Space, seeds: list[Genome]) -> None:
        super().__init__()
        self.space, self.seeds = space, seeds

    def _do(self, problem: Any, n_samples: int, *_: Any, random_state: Any = None, **__: Any) -> Ints:
        random = [random_genome(self.space, random_state) for _ in range(n_samples - len(self.seeds))]
        return np.array([g.levels for g in [*self.seeds, *random]], dtype=np.int64)


class BlockCrossover(Crossover):
    """Crosses two parents block by block, and records each child's parents for the mutation that follows."""

    def __init__(self, space: Space, prob: float) -> None:
        super().__init__(n_parents=2, n_offsprings=1, prob=prob)
        self.space = space
        self.parents: dict[Genome, tuple[Genome, ...]] = {}

    def _do(self, problem: Any, X: Ints, *_: Any, random_state: Any = None, **__: Any) -> Ints:
        children = []
        for a, b in zip(map(Genome.of, X[0]), map(Genome.of, X[1]), strict=True):
            child = cross(self.space, a, b, random_state)
            self.parents[child] = (a,) if a == b else (a, b)
            children.append(child.levels)
        return np.array(children, dtype=np.int64)[None]


class ChildOrigin(NamedTuple):
    """The move that made a child, and its parents."""

    move: str
    parents: tuple[Genome, ...]


class LearnedMutation(Mutation):
    """Makes one move for each child, and records it until the child's survival is known."""

    def __init__(self, space: Space, crossover: BlockCrossover) -> None:
        super().__init__(prob=1.0)
        self.space, self.crossover = space, crossover
        self.moves: dict[str, Callable[..., Genome]] = moves(space)
        self.choice = LearnedChoice(self.moves)
        self.origins: dict[Genome, ChildOrigin] = {}

    def _do(self, problem: Any, X: Ints, *_: Any, random_state: Any = None, **__: Any) -> Ints:
        names = list(self.choice.probabilities)
        move_indices = random_state.choice(len(names), size=len(X), p=list(self.choice.probabilities.values()))
        parents, self.crossover.parents = self.crossover.parents, {}
        children = []
        for genome, i in zip(map(Genome.of, X), move_indices, strict=True):
            child = self.moves[names[i]](self.space, genome, random_state)
            self.origins[child] = ChildOrigin(names[i], parents.get(genome, (genome,)))
            children.append(child.levels)
        return np.array(children, dtype=np.int64)

    def learn(self, children: Iterable[Genome], survivors: set[Genome]) -> None:
        """Update the moves' success rates by measured children."""
        for child in children:
            if child in self.origins:
                self.choice.learn(self.origins.pop(child).move, child in survivors)
        if len(self.origins) > 10_000:  # of children that were never measured
            self.origins.clear()


class LimitRepair(Repair):
    """Makes children feasible that crossover made and mutation left unchanged."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    def _do(self, problem: Any, X: Ints, random_state: Any = None, **_: Any) -> Ints:
        return np.array([repair(self.space, Genome.of(row), random_state).levels for row in X], dtype=np.int64)
