"""Screening: a proxy chooses the children to measure among several times as many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsesearch import pareto
from sparsesearch.arrays import Floats
from sparsesearch.space import Genome, Space
from sparsesearch.space.cost import cost_index


@dataclass(frozen=True)
class Screen:
    """Chooses the children to measure.

    Attributes:
        scores: scores level vectors, (genomes, units) -> (genomes,); lower is better.
        children: number of children for each measured one, > 1.
        unscreened: share, in [0, 1], of the measured children that are chosen at random, since errors of the proxy
            would stay unknown otherwise.
    """

    scores: Callable[[Any], Floats]
    children: int
    unscreened: float

    def choose(
        self, space: Space, genomes: Sequence[Genome], costs: Sequence[str], rng: np.random.Generator
    ) -> list[int]:
        """Return the indices of the genomes to measure, ascending: one of `children`, the best at all sizes.

        Args:
            costs: names of costs that count beside the score.
        """
        count = max(len(genomes) // self.children, 1)
        unscreened = rng.choice(len(genomes), round(self.unscreened * count), replace=False)
        if len(unscreened) == count:
            return sorted(unscreened.tolist())
        rest = np.setdiff1d(np.arange(len(genomes)), unscreened)
        levels = np.array([genomes[i].levels for i in rest])
        totals = space.costs.totals(levels)[:, [cost_index(cost) for cost in costs]]
        points = np.column_stack([self.scores(levels), totals])
        best = rest[pareto.best_fronts(points, count - len(unscreened))]
        return sorted([*unscreened.tolist(), *best.tolist()])
