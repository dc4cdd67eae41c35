"""Moves in a space; every one ends in `repair`, so children meet all limits exactly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from sparsesearch.arrays import Bools, Ints
from sparsesearch.space import Genome, Space
from sparsesearch.space.cost import cost_index
from sparsesearch.space.repair import fill, repair

Move = Callable[[Space, Genome, np.random.Generator], Genome]
# Draws of a move before another move is made instead.
MAX_DRAWS = 20
# Column of the cost that a transfer between kinds preserves; every kind of unit changes it.
TRANSFERRED_COST = cost_index("nonzeros")


def moves(space: Space) -> dict[str, Move]:
    """Return the moves that a space allows, by name."""
    allowed: dict[str, Move] = {"switch": partial(switch, grow=False), "shift": shift}
    if space.bounds:
        allowed["switch to the limit"] = switch
    if np.bincount(space.blocks).max() > 1:
        allowed["within a block"] = within_block
    if len(set(space.kinds)) > 1:
        allowed["transfer"] = transfer
    return allowed


def switch(space: Space, parent: Genome, rng: np.random.Generator, max_switches: int = 3, grow: bool = True) -> Genome:
    """Make EvoPress's level switch: one unit a level denser, another one sparser, min(U, U) of 1..`max_switches` times.

    `repair` corrects the imbalance of the two steps. Returns the parent only if no feasible genome is one step away.

    Args:
        grow: grow the child up to the limits.
    """
    for _ in range(MAX_DRAWS):
        child = _switch_levels(space, parent, rng, max_switches, np.ones(len(parent), dtype=bool))
        child = fill(space, child, rng) if grow else child
        if child != parent:
            return child
    return shift(space, parent, rng)


def within_block(space: Space, parent: Genome, rng: np.random.Generator) -> Genome:
    """Make level switches between units of one block; any switch if no block has one."""
    blocks = np.flatnonzero(np.bincount(space.blocks) > 1)
    for _ in range(MAX_DRAWS):
        child = _switch_levels(space, parent, rng, 3, space.blocks == rng.choice(blocks))
        if child != parent:
            return child
    return switch(space, parent, rng, grow=False)


def _switch_levels(space: Space, parent: Genome, rng: np.random.Generator, max_switches: int, allowed: Bools) -> Genome:
    levels = parent.levels.astype(np.int64)
    for _ in range(min(rng.integers(1, max_switches + 1), rng.integers(1, max_switches + 1))):
        _switch_once(space, levels, rng, allowed)
    return repair(space, Genome.of(levels), rng)


def _switch_once(space: Space, levels: Ints, rng: np.random.Generator, allowed: Bools) -> None:
    can_be_denser = np.flatnonzero((levels > 0) & allowed)
    can_be_sparser = np.flatnonzero((levels < space.max_levels) & allowed)
    if can_be_denser.size:
        denser_unit = rng.choice(can_be_denser)
        can_be_sparser = can_be_sparser[can_be_sparser != denser_unit]
        same_kind = can_be_sparser[space.kinds[can_be_sparser] == space.kinds[denser_unit]]
        # Steps of one kind balance best; steps across kinds move budget between them.
        if same_kind.size and rng.random() < 0.75:
            can_be_sparser = same_kind
        levels[denser_unit] -= 1
    if can_be_sparser.size:
        levels[rng.choice(can_be_sparser)] += 1


def transfer(space: Space, parent: Genome, rng: np.random.Generator) -> Genome:
    """Make one unit a level denser, and units of another kind sparser until the number of weights is the parent's."""
    for _ in range(MAX_DRAWS):
        levels = parent.levels.astype(np.int64)
        denser_unit = rng.choice(np.flatnonzero(levels)) if levels.any() else None
        if denser_unit is None:
            break
        levels[denser_unit] -= 1
        kind = rng.choice(np.unique(space.kinds[space.kinds != space.kinds[denser_unit]]))
        _compensate(space, levels, parent, rng, space.kinds == kind)
        child = repair(space, Genome.of(levels), rng)
        if child != parent:
            return child
    return shift(space, parent, rng)


def _compensate(space: Space, levels: Ints, parent: Genome, rng: np.random.Generator, allowed: Bools) -> None:
    """Make random units a level sparser, each at most once, until the weights are no more than the parent's."""
    budget = space.costs.totals(parent.levels)[TRANSFERRED_COST]
    for unit in rng.permutation(np.flatnonzero(allowed & (levels < space.max_levels))):
        if space.costs.totals(levels)[TRANSFERRED_COST] <= budget:
            return
        levels[unit] += 1


def shift(space: Space, parent: Genome, rng: np.random.Generator) -> Genome:
    """Move one to four random units by one or two levels, all in one direction, so that the size changes."""
    for _ in range(MAX_DRAWS):
        levels = parent.levels.astype(np.int64)
        units = rng.choice(len(levels), size=min(len(levels), int(rng.integers(1, 5))), replace=False)
        levels[units] += rng.choice([-1, 1]) * rng.integers(1, 3, size=len(units))
        child = repair(space, Genome.of(np.clip(levels, 0, space.max_levels)), rng)
        if child != parent:
            return child
    return _any_neighbour(space, parent, rng)


def _any_neighbour(space: Space, parent: Genome, rng: np.random.Generator) -> Genome:
    """Return a feasible genome one step away, or the parent if there is none."""
    steps = [(unit, step) for unit in range(len(parent)) for step in (1, -1)]
    for choice in rng.permutation(len(steps)):
        unit, step = steps[choice]
        levels = parent.levels.astype(np.int64)
        levels[unit] += step
        if 0 <= levels[unit] <= space.max_levels[unit] and space.feasible(child := Genome.of(levels)):
            return child
    return parent


def cross(space: Space, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
    """Return a child that takes every block from one of two parents at random."""
    from_a = rng.random(int(space.blocks.max()) + 1) < 0.5
    return repair(space, Genome.of(np.where(from_a[space.blocks], a.levels, b.levels)), rng)
