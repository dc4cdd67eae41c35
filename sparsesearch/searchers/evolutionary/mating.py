"""How pymoo samples, crosses, mutates and repairs: the space's own moves, chosen by what they have achieved."""

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

# A move keeps at least this share of an equal share of the children.
FLOOR = 0.25
# Weight of the newest child in a move's success rate.
MEMORY = 0.02


class LearnedChoice:
    """Probability matching (Thierens, GECCO 2005): a move is chosen as often as its children survive."""

    def __init__(self, names: Iterable[str]) -> None:
        # Nothing is known yet: all alike, and well above what moves achieve later, so that each is tried.
        self.success = dict.fromkeys(names, 0.5)

    @property
    def probabilities(self) -> dict[str, float]:
        least, total = FLOOR / len(self.success), sum(self.success.values())
        return {name: least + (1 - FLOOR) * rate / total for name, rate in self.success.items()}

    def learn(self, name: str, survived: bool) -> None:
        """Take in what became of a child."""
        self.success[name] += MEMORY * (max(float(survived), 1e-3) - self.success[name])


class SpaceSampling(Sampling):
    """Seeds, then random genomes of all sizes."""

    def __init__(self, space: Space, seeds: list[Genome]) -> None:
        super().__init__()
        self.space, self.seeds = space, seeds

    def _do(self, problem: Any, n_samples: int, *_: Any, random_state: Any = None, **__: Any) -> Ints:
        drawn = [random_genome(self.space, random_state) for _ in range(n_samples - len(self.seeds))]
        return np.array([g.levels for g in [*self.seeds, *drawn]], dtype=np.int64)


class BlockCrossover(Crossover):
    """A child takes every block from one of its two parents; whose it is, is kept for the mutation that follows."""

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


class Made(NamedTuple):
    """How a child was made."""

    move: str
    parents: tuple[Genome, ...]


class LearnedMutation(Mutation):
    """One move a child; which one made it is kept until what became of the child is known."""

    def __init__(self, space: Space, crossover: BlockCrossover) -> None:
        super().__init__(prob=1.0)
        self.space, self.crossover = space, crossover
        self.moves: dict[str, Callable[..., Genome]] = moves(space)
        self.choice = LearnedChoice(self.moves)
        self.made: dict[Genome, Made] = {}

    def _do(self, problem: Any, X: Ints, *_: Any, random_state: Any = None, **__: Any) -> Ints:
        names = list(self.choice.probabilities)
        chosen = random_state.choice(len(names), size=len(X), p=list(self.choice.probabilities.values()))
        crossed, self.crossover.parents = self.crossover.parents, {}
        children = []
        for before, i in zip(map(Genome.of, X), chosen, strict=True):
            child = self.moves[names[i]](self.space, before, random_state)
            self.made[child] = Made(names[i], crossed.get(before, (before,)))
            children.append(child.levels)
        return np.array(children, dtype=np.int64)

    def learn(self, children: Iterable[Genome], survivors: set[Genome]) -> None:
        """Take in which children survived; forget the children that were never measured."""
        for child in children:
            if child in self.made:
                self.choice.learn(self.made.pop(child).move, child in survivors)
        if len(self.made) > 10_000:
            self.made.clear()


class LimitRepair(Repair):
    """Makes what crossover left unchanged by mutation feasible."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    def _do(self, problem: Any, X: Ints, random_state: Any = None, **_: Any) -> Ints:
        return np.array([repair(self.space, Genome.of(row), random_state).levels for row in X], dtype=np.int64)
