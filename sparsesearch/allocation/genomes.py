"""From densities to genomes: real levels, exact limits."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping

from sparsesearch.space import Genome, Space, Unit
from sparsesearch.space.repair import fill

STEPS = 200


def distributed(space: Space) -> list[Unit]:
    """The units that allocations distribute over: those of kind `sparsity`, or, where there are none, the widths.

    Experts are not among them: nothing reads an expert as a column.
    """
    sparsity = [unit for unit in space.units if unit.kind == "sparsity"]
    return sparsity or [unit for unit in space.units if unit.is_cut and unit.kind != "experts"]


def level_of(unit: Unit, density: float) -> int:
    """The largest level that keeps no more than a density, or the smallest level where all keep more.

    Between level 1 and dense the nearer one, so that almost dense units stay dense.
    """
    kept = round(density * unit.total)
    below = next((i for i, count in enumerate(unit.levels) if count <= kept), len(unit.levels) - 1)
    return 0 if below == 1 and unit.total - kept < kept - unit.levels[1] else below


def nearest(space: Space, density_by_unit: Mapping[str, float]) -> Genome:
    """Each named unit at its `level_of` the density, every other unit dense; limits are not read."""
    return Genome.of(level_of(u, density_by_unit[u.name]) if u.name in density_by_unit else 0 for u in space.units)


def at_limits(space: Space, densities: Callable[[float], Mapping[str, float]]) -> Genome | None:
    """The least sparse genome of a rule that meets every limit, grown into what they leave.

    Args:
        space: with limits; without any, the result is dense.
        densities: from an overall sparsity to the share kept by name of unit; what it keeps in all must not grow.

    Returns:
        None where the limits cannot be met by these units alone.
    """

    def genome(step: int) -> Genome:
        return nearest(space, densities(step / STEPS))

    if not space.feasible(genome(STEPS)):
        return None
    least = bisect_left(range(STEPS), True, key=lambda step: space.feasible(genome(step)))
    return fill(space, genome(least))
