"""Make any genome respect the limits, exactly, and use what the limits allow.

Every mutation and crossover ends in `repair`. It only ever moves units towards smaller levels, so it returns feasible
genomes unchanged (idempotent) and always terminates: the all-smallest genome is feasible, as `Space.check` verified.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sparsesearch.errors import InfeasibleError
from sparsesearch.space.genome import Genome
from sparsesearch.space.space import Space


def repair(space: Space, genome: Genome, rng: np.random.Generator) -> Genome:
    """The genome itself where feasible, else one reached by shrinking random units, one level at a time.

    Raises InfeasibleError SS405 when even the smallest genome exceeds a limit.
    """
    levels = genome.levels.astype(np.int64)
    while True:
        now = space.excess(space.costs.totals(levels))
        violated = now > 0
        if not violated.any():
            return Genome.of(levels)
        after = space.excess(space.costs.neighbours(levels, +1))
        movable = levels < space.max_levels
        helps = movable & (after[:, violated] < now[violated]).any(axis=1)
        choices = np.flatnonzero(helps if helps.any() else movable)
        if choices.size == 0:
            over = space.bounds[int(np.flatnonzero(violated)[0])]
            raise InfeasibleError("SS405", f"no genome meets {over.text}: even the smallest exceeds it.")
        levels[rng.choice(choices)] += 1


def fill(
    space: Space, genome: Genome, rng: np.random.Generator | None = None, only: npt.NDArray[np.bool_] | None = None
) -> Genome:
    """Grow units back one level at a time while every limit still holds, so that no budget lies idle.

    Args:
        rng: picks among the units that fit; without it the most pruned unit goes first, so a uniform genome stays as
            uniform as the limits allow.
        only: units that may grow, shape (units,); all where None.
    """
    if not space.bounds:
        return genome
    levels = genome.levels.astype(np.int64)
    while True:
        fits = (space.excess(space.costs.neighbours(levels, -1)) <= 0).all(axis=1) & (levels > 0)
        if only is not None:
            fits &= only
        choices = np.flatnonzero(fits)
        if choices.size == 0:
            return Genome.of(levels)
        if rng is not None:
            pick = rng.choice(choices)
        else:
            removed = [space.removed[u][levels[u]] for u in choices]
            pick = choices[int(np.argmax(removed))]
        levels[pick] -= 1
