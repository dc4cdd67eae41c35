"""Genomes at the densities that allocation rules give, and at the limits of a space."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping

from sparsesearch.space import Genome, Space, Unit
from sparsesearch.space.repair import fill

# Overall sparsities that are tried, in equal steps from 0 to 1.
SPARSITY_STEPS = 200


def allocation_units(space: Space) -> list[Unit]:
    """Return the units that allocations distribute over: those of kind `sparsity`, or, if there are none, the widths.

    Experts are not among them, since no matrix reads an expert as a column.
    """
    sparsity = [unit for unit in space.units if unit.kind == "sparsity"]
    return sparsity or [unit for unit in space.units if unit.is_cut and unit.kind != "experts"]


def level_at_density(unit: Unit, density: float) -> int:
    """Return the first level that keeps no more than a density, or the last level if all keep more.

    Between dense and level 1 it is the nearer one, so that almost dense units stay dense.
    """
    kept = round(density * unit.total)
    below = next((i for i, count in enumerate(unit.levels) if count <= kept), len(unit.levels) - 1)
    return 0 if below == 1 and unit.total - kept < kept - unit.levels[1] else below


def genome_at_densities(space: Space, density_by_unit: Mapping[str, float]) -> Genome:
    """Return each named unit at its `level_at_density`, every other unit dense; limits are not considered."""
    return Genome.of(
        level_at_density(u, density_by_unit[u.name]) if u.name in density_by_unit else 0 for u in space.units
    )


def genome_at_limits(space: Space, densities: Callable[[float], Mapping[str, float]]) -> Genome | None:
    """Return the least sparse genome of a rule that meets every limit, grown until no unit can grow further.

    Args:
        space: a space with limits; without any, the result is dense.
        densities: gives the share kept by unit name for an overall sparsity; the total kept must not increase with it.

    Returns:
        The genome; None if these units alone cannot meet the limits.
    """

    def genome(step: int) -> Genome:
        return genome_at_densities(space, densities(step / SPARSITY_STEPS))

    if not space.feasible(genome(SPARSITY_STEPS)):
        return None
    least_sparse = bisect_left(range(SPARSITY_STEPS), True, key=lambda step: space.feasible(genome(step)))
    return fill(space, genome(least_sparse))
