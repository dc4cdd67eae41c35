"""Many children for each one that is measured: a proxy chooses among them."""

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
    """Chooses which children are measured.

    Attributes:
        scores: of level vectors, (genomes, units) -> (genomes,); lower is better.
        children: made for each that is measured, > 1.
        unscreened: share, in [0, 1], of the measured ones that are chosen blindly: what a proxy is wrong about would
            never be found out otherwise.
    """

    scores: Callable[[Any], Floats]
    children: int
    unscreened: float

    def chosen(
        self, space: Space, genomes: Sequence[Genome], costs: Sequence[str], rng: np.random.Generator
    ) -> list[int]:
        """Indices of the genomes to measure, ascending: one of `children`, the best at all sizes.

        Args:
            costs: names of those that count beside the score.
        """
        count = max(len(genomes) // self.children, 1)
        blind = rng.choice(len(genomes), round(self.unscreened * count), replace=False)
        if len(blind) == count:
            return sorted(blind.tolist())
        left = np.setdiff1d(np.arange(len(genomes)), blind)
        levels = np.array([genomes[i].levels for i in left])
        totals = space.costs.totals(levels)[:, [cost_index(cost) for cost in costs]]
        points = np.column_stack([self.scores(levels), totals])
        best = left[pareto.best_fronts(points, count - len(blind))]
        return sorted([*blind.tolist(), *best.tolist()])
