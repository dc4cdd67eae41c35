"""Genomes to start from: uniform ones at any size, and random ones spread over the whole range of sizes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from sparsesearch.space.genome import Genome
from sparsesearch.space.limit import Limit
from sparsesearch.space.repair import fill, repair
from sparsesearch.space.space import Space
from sparsesearch.space.unit import CUT_KINDS

# Draws for each genome to return, before giving up.
DRAWS_PER_GENOME = 20
# Largest scatter around a uniform genome, as a share of a unit's levels.
MAX_SCATTER = 0.5
# Kinds of units that move together in a uniform genome; dropping sublayers has no uniform form.
UNIFORM_KINDS: dict[str, tuple[str, ...]] = {
    "uniform": ("sparsity", *CUT_KINDS),
    "uniform_sparsity": ("sparsity",),
    "uniform_width": CUT_KINDS,
}


def uniform_genome(space: Space, removed: float, kinds: Collection[str]) -> Genome:
    """Return every unit of `kinds` at its first level that removes at least the fraction `removed`, the rest dense.

    A unit without such a level gets its last one.
    """
    levels = [
        int(min(np.searchsorted(fractions, removed - 1e-12), highest)) if unit.kind in kinds else 0
        for unit, fractions, highest in zip(space.units, space.removed_fractions, space.max_levels, strict=True)
    ]
    return Genome.of(levels)


def uniform_variants(space: Space) -> dict[str, tuple[str, ...]]:
    """Return the uniform baselines of this space by name, with the kinds that each moves; duplicates are left out."""
    present = {u.kind for u in space.units}
    variants: dict[str, tuple[str, ...]] = {}
    for name, uniform_kinds in UNIFORM_KINDS.items():
        kinds = tuple(k for k in uniform_kinds if k in present)
        if kinds and kinds not in variants.values():
            variants[name] = kinds
    return variants


def uniform_at_limits(space: Space, kinds: Collection[str]) -> Genome | None:
    """Return the least pruned uniform genome over `kinds` that meets every limit, grown until no unit can grow further.

    None if no uniform genome over these kinds is feasible.
    """
    pairs = zip(space.units, space.removed_fractions, strict=True)
    fractions = sorted({f for unit, removed in pairs if unit.kind in kinds for f in removed.tolist()})
    for fraction in fractions:
        genome = uniform_genome(space, fraction, kinds)
        if space.feasible(genome):
            movable = np.array([u.kind in kinds for u in space.units])
            return fill(space, genome, only=movable)
    return None


def starting_genomes(space: Space, sizes: int = 0) -> dict[str, Genome]:
    """Return the genomes of generation 0: dense, each uniform variant at the limits, and `sizes` uniform steps.

    Names are `dense`, `uniform`, `uniform_sparsity`, `uniform_width`, with `@NN%` (removed) for the steps.
    """
    genomes: dict[str, Genome] = {"dense": space.dense}
    for name, kinds in uniform_variants(space).items():
        if space.bounds and (genome := uniform_at_limits(space, kinds)) is not None:
            genomes[name] = genome
        top = max(space.removed_fractions[i][-1] for i, u in enumerate(space.units) if u.kind in kinds)
        for step in range(1, sizes + 1):
            fraction = float(top) * step / sizes
            genomes[f"{name}@{fraction:.0%}"] = uniform_genome(space, fraction, kinds)
    unique: dict[Genome, str] = {}
    for name, genome in genomes.items():
        if name == "dense" or space.feasible(genome):
            unique.setdefault(genome, name)
    return {name: genome for genome, name in unique.items()}


def with_default_limit(space: Space, cost: str) -> Space:
    """Return the space itself if it has limits, else with a limit in the middle of the range of a cost."""
    if space.bounds:
        return space
    smallest, dense = space.costs.named(space.smallest.levels)[cost], space.dense_costs[cost]
    return space.with_limits([Limit.parse(f"{cost}<={(smallest + dense) // 2}")])


def equal_cost_genomes(space: Space, count: int, rng: np.random.Generator) -> list[Genome]:
    """Return distinct genomes that use the limits up, from almost uniform to scattered; fewer if the space is small.

    Args:
        space: a space with limits.
        count: number of genomes.
    """
    kinds = {unit.kind for unit in space.units}
    start = uniform_at_limits(space, kinds) or repair(space, space.dense, rng)
    genomes: dict[Genome, None] = {}
    for _ in range(DRAWS_PER_GENOME * count):
        scatter = rng.random() * MAX_SCATTER * rng.normal(size=len(space.units))
        levels = np.rint(start.levels + scatter * space.max_levels)
        genome = Genome.of(np.clip(levels, 0, space.max_levels).astype(np.int64))
        genomes[fill(space, repair(space, genome, rng), rng)] = None
        if len(genomes) == count:
            break
    return list(genomes)


def random_genome(space: Space, rng: np.random.Generator) -> Genome:
    """Return a feasible genome whose overall size is uniform over the range and whose units scatter around it."""
    centre = rng.random()
    relative = np.clip(rng.normal(centre, 0.2, len(space.units)), 0, 1)
    levels = np.rint(relative * space.max_levels).astype(np.int64)
    # A dropped sublayer removes everything at once, so drops are drawn at half the rate.
    levels[space.drops] = rng.random(int(space.drops.sum())) < 0.5 * centre
    return repair(space, Genome.of(levels), rng)
