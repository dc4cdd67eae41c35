"""Moves in a space; every one ends in `repair`, so children respect all limits exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sparsesearch.space import Genome, Space
from sparsesearch.space.repair import fill, repair


def switch(space: Space, parent: Genome, rng: np.random.Generator, max_switches: int = 3) -> Genome:
    """EvoPress's level switch: one unit one level denser, another one sparser, min(U, U) of 1..`max_switches` times.

    What the two steps do not balance exactly, `repair` and `fill` do. Never returns the parent where another feasible
    genome is one move away.
    """
    for _ in range(20):
        levels = parent.levels.astype(np.int64)
        for _ in range(min(rng.integers(1, max_switches + 1), rng.integers(1, max_switches + 1))):
            _switch_once(space, levels, rng)
        child = fill(space, repair(space, Genome.of(levels), rng), rng)
        if child != parent:
            return child
    return shift(space, parent, rng)


def _switch_once(space: Space, levels: npt.NDArray[np.int64], rng: np.random.Generator) -> None:
    denser = np.flatnonzero(levels > 0)
    sparser = np.flatnonzero(levels < space.max_levels)
    if denser.size:
        up = rng.choice(denser)
        sparser = sparser[sparser != up]
        same_kind = sparser[space.kinds[sparser] == space.kinds[up]]
        # Steps of one kind balance best; steps across kinds move budget between them.
        if same_kind.size and rng.random() < 0.75:
            sparser = same_kind
        levels[up] -= 1
    if sparser.size:
        levels[rng.choice(sparser)] += 1


def shift(space: Space, parent: Genome, rng: np.random.Generator) -> Genome:
    """Move one to four random units by a level or two, all in one direction, so that the size changes."""
    for _ in range(20):
        levels = parent.levels.astype(np.int64)
        units = rng.choice(len(levels), size=min(len(levels), int(rng.integers(1, 5))), replace=False)
        levels[units] += rng.choice([-1, 1]) * rng.integers(1, 3, size=len(units))
        child = repair(space, Genome.of(np.clip(levels, 0, space.max_levels)), rng)
        if child != parent:
            return child
    return _any_neighbour(space, parent, rng)


def _any_neighbour(space: Space, parent: Genome, rng: np.random.Generator) -> Genome:
    """A feasible genome one step away, or the parent where there is none."""
    steps = [(unit, step) for unit in range(len(parent)) for step in (1, -1)]
    for choice in rng.permutation(len(steps)):
        unit, step = steps[choice]
        levels = parent.levels.astype(np.int64)
        levels[unit] += step
        if 0 <= levels[unit] <= space.max_levels[unit] and space.feasible(child := Genome.of(levels)):
            return child
    return parent


def cross(space: Space, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
    """A child that takes every block from one of two parents at random."""
    from_a = rng.random(int(space.blocks.max()) + 1) < 0.5
    return repair(space, Genome.of(np.where(from_a[space.blocks], a.levels, b.levels)), rng)
