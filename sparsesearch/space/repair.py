"""Make any genome meet the limits, exactly, and grow it to use what the limits allow.

Every mutation and crossover ends in `repair`. It only ever moves units towards smaller levels, so it returns feasible
genomes unchanged (idempotent) and always terminates: the all-smallest genome is feasible, as `Space.check` verified.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from sparsesearch.arrays import Bools, Ints
from sparsesearch.errors import problem
from sparsesearch.space.genome import Genome
from sparsesearch.space.space import Space

# Random steps of the first draw; each further draw has twice as many.
FIRST_DRAW_STEPS = 4


def repair(space: Space, genome: Genome, rng: np.random.Generator) -> Genome:
    """Return the genome itself if feasible, else one reached by shrinking random units, one level at a time.

    Raises InfeasibleError SS405 if even the smallest genome exceeds a limit.
    """
    if not space.bounds:
        return genome
    levels, count = genome.levels.astype(np.int64), FIRST_DRAW_STEPS
    while True:
        exceeded = space.excess(space.costs.totals(levels)) > 0
        if not exceeded.any():
            return Genome.of(levels)
        movable = levels < space.max_levels
        helpful = movable & space.bound_depends_on_unit[:, exceeded].any(axis=1)
        units = np.flatnonzero(helpful if helpful.any() else movable)
        if units.size == 0:
            bound = space.bounds[int(np.flatnonzero(exceeded)[0])]
            raise problem("SS405", f"no genome meets {bound.text}: even the smallest exceeds it.")
        drawn = rng.choice(units, count)
        levels = _moved(space, levels, drawn[: _steps(space, levels, drawn, +1, until=True)], +1)
        count *= 2


def _moved(space: Space, levels: Ints, units: Ints, step: int) -> Ints:
    """Return levels (units,) moved by `step` once for each entry of `units`, clipped to the levels that exist."""
    moved: Ints = levels + step * np.bincount(units, minlength=len(levels))
    return np.clip(moved, 0, space.max_levels)


def _steps(space: Space, levels: Ints, units: Ints, step: int, until: bool) -> int:
    """Return the number of moves, in order, until feasibility equals `until`; len(units) + 1 if it never does.

    Found by bisection, since every cost is monotonic along the moves.
    """

    def reached(count: int) -> bool:
        costs = space.costs.totals(_moved(space, levels, units[:count], step))
        return bool((space.excess(costs) <= 0).all()) == until

    return bisect_left(range(len(units) + 1), True, key=reached)


def fill(space: Space, genome: Genome, rng: np.random.Generator | None = None, only: Bools | None = None) -> Genome:
    """Return a genome with units grown by one level at a time until no further step meets every limit.

    Args:
        rng: picks among the units that may grow; without it the most pruned unit grows first, so a uniform genome stays
            as uniform as the limits allow.
        only: mask of the units that may grow, shape (units,); None for all.
    """
    if not space.bounds:
        return genome
    levels, count = genome.levels.astype(np.int64), FIRST_DRAW_STEPS
    while True:
        can_grow = (space.excess(space.costs.neighbours(levels, -1)) <= 0).all(axis=1) & (levels > 0)
        if only is not None:
            can_grow &= only
        choices = np.flatnonzero(can_grow)
        if choices.size == 0:
            return Genome.of(levels)
        if rng is None:
            removed = [space.removed_fractions[u][levels[u]] for u in choices]
            levels[choices[int(np.argmax(removed))]] -= 1
            continue
        drawn = rng.choice(choices, count)
        most = max(_steps(space, levels, drawn, -1, until=False) - 1, 1)
        levels = _moved(space, levels, drawn[:most], -1)
        count = 2 * count if most == count else FIRST_DRAW_STEPS
