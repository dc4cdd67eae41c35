"""Genomes to start from: uniform ones at any size, and random ones spread over the whole range of sizes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from sparsesearch.space.genome import Genome
from sparsesearch.space.limit import Limit
from sparsesearch.space.repair import fill, repair
from sparsesearch.space.space import Space
from sparsesearch.space.unit import CUT_KINDS

# Genomes drawn for each that is wanted, and the largest scatter around uniform, as a share of a unit's levels.
TRIES, SCATTER = 20, 0.5
# Which units move together in a uniform genome; dropping sublayers has no uniform form.
UNIFORM_KINDS: dict[str, tuple[str, ...]] = {
    "uniform": ("sparsity", *CUT_KINDS),
    "uniform_sparsity": ("sparsity",),
    "uniform_width": CUT_KINDS,
}


def at_fraction(space: Space, removed: float, kinds: Collection[str]) -> Genome:
    """Every unit of `kinds` at its largest level that removes at least the fraction `removed`, the rest dense."""
    levels = [
        int(min(np.searchsorted(space.removed[i], removed - 1e-12), space.max_levels[i])) if u.kind in kinds else 0
        for i, u in enumerate(space.units)
    ]
    return Genome.of(levels)


def uniform_variants(space: Space) -> dict[str, tuple[str, ...]]:
    """The uniform baselines that this space has, by name; those that would coincide are left out."""
    present = {u.kind for u in space.units}
    variants: dict[str, tuple[str, ...]] = {}
    for name, kinds in UNIFORM_KINDS.items():
        own = tuple(k for k in kinds if k in present)
        if own and own not in variants.values():
            variants[name] = own
    return variants


def uniform_at_limits(space: Space, kinds: Collection[str]) -> Genome | None:
    """The least pruned uniform genome over `kinds` that meets every limit, grown back into what is left of them.

    None where no uniform genome over these kinds is feasible.
    """
    fractions = sorted({f for i, u in enumerate(space.units) if u.kind in kinds for f in space.removed[i].tolist()})
    for fraction in fractions:
        genome = at_fraction(space, fraction, kinds)
        if space.feasible(genome):
            movable = np.array([u.kind in kinds for u in space.units])
            return fill(space, genome, only=movable)
    return None


def starting_genomes(space: Space, sizes: int = 0) -> dict[str, Genome]:
    """What generation 0 always holds: dense, each uniform variant at the limits, and `sizes` uniform steps in between.

    Names are `dense`, `uniform`, `uniform_sparsity`, `uniform_width`, with `@NN%` (removed) for the steps.
    """
    found: dict[str, Genome] = {"dense": space.dense}
    for name, kinds in uniform_variants(space).items():
        if space.bounds and (genome := uniform_at_limits(space, kinds)) is not None:
            found[name] = genome
        top = max(space.removed[i][-1] for i, u in enumerate(space.units) if u.kind in kinds)
        for step in range(1, sizes + 1):
            fraction = float(top) * step / sizes
            found[f"{name}@{fraction:.0%}"] = at_fraction(space, fraction, kinds)
    unique: dict[Genome, str] = {}
    for name, genome in found.items():
        if name == "dense" or space.feasible(genome):
            unique.setdefault(genome, name)
    return {name: genome for genome, name in unique.items()}


def middling(space: Space, cost: str) -> Space:
    """The space itself where it has limits, else with one in the middle of the range of a cost."""
    if space.bounds:
        return space
    smallest, dense = space.costs.named(space.smallest.levels)[cost], space.dense_costs[cost]
    return space.with_limits([Limit.parse(f"{cost}<={(smallest + dense) // 2}")])


def equal_cost_genomes(space: Space, count: int, rng: np.random.Generator) -> list[Genome]:
    """Different genomes that fill the limits, almost uniform ones to scattered ones; fewer where the space is small.

    Args:
        space: with limits.
    """
    kinds = {unit.kind for unit in space.units}
    start = uniform_at_limits(space, kinds) or repair(space, space.dense, rng)
    found: dict[Genome, None] = {}
    for _ in range(TRIES * count):
        scatter = rng.random() * SCATTER * rng.normal(size=len(space.units))
        levels = np.rint(start.levels + scatter * space.max_levels)
        genome = Genome.of(np.clip(levels, 0, space.max_levels).astype(np.int64))
        found[fill(space, repair(space, genome, rng), rng)] = None
        if len(found) == count:
            break
    return list(found)


def random_genome(space: Space, rng: np.random.Generator) -> Genome:
    """A feasible genome whose overall size is uniform over the range and whose units scatter around it."""
    centre = rng.random()
    relative = np.clip(rng.normal(centre, 0.2, len(space.units)), 0, 1)
    levels = np.rint(relative * space.max_levels).astype(np.int64)
    # A dropped sublayer removes everything at once; at half the rate, genomes of every size stay plausible.
    levels[space.drops] = rng.random(int(space.drops.sum())) < 0.5 * centre
    return repair(space, Genome.of(levels), rng)
