"""Exact minima of the additive model under cost limits, and the limits at which searchers ask for them.

Costs of units that share tensors are not additive; all solvers use their exact joint costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sparsesearch.errors import InputError
from sparsesearch.searchers.exact.additive import Table
from sparsesearch.searchers.exact.dynamic_program import DynamicProgram
from sparsesearch.searchers.exact.integer_program import IntegerProgram
from sparsesearch.searchers.exact.joint_choices import Box
from sparsesearch.space import Genome, Limit, Space


class Solver(Protocol):
    """Finds minima of tables over one space, whose joint costs are computed once."""

    space: Space

    def __init__(self, space: Space) -> None:
        """Raises InputError SS112 if it cannot take the space."""
        ...

    def solve(self, table: Table, limits: Sequence[Limit], near: Box | None = None) -> list[Genome]:
        """Return for each limit a genome of least predicted loss within it and the space's own limits.

        Args:
            table: for each unit the predicted rise of the loss at each level, (levels,).
            limits: further limits, one for each solution.
            near: lowest and highest level of each unit, (units,) each, which some genome within the limits meets.

        Raises InfeasibleError SS405 if no genome meets the limits.
        """
        ...


def solver_of(space: Space) -> Solver:
    """Return a dynamic program if it can take the space, since one sweep serves all sizes; else an integer program."""
    try:
        return DynamicProgram(space)
    except InputError:
        return IntegerProgram(space)


def limits_between(space: Space, cost: str, sizes: int) -> list[Limit]:
    """Return the space's first limit, and limits at even steps of a cost between it, or dense, and the smallest genome.

    Args:
        sizes: number of even steps.
    """
    return [*space.limits[:1], *limits_at(space, cost, np.linspace(0, 1, sizes + 2)[1:-1])]


def limits_at(space: Space, cost: str, shares: npt.ArrayLike) -> list[Limit]:
    """Return limits between the smallest genome's cost, share 0, and the space's own first limit or dense, share 1.

    Args:
        shares: (limits,), in [0, 1].
    """
    smallest = space.costs.named(space.smallest.levels)[cost]
    largest = space.bounds[0].maximum if space.bounds else space.dense_costs[cost]
    steps = (smallest + (largest - smallest) * np.asarray(shares)).astype(np.int64).tolist()
    return [Limit.parse(f"{cost}<={step}") for step in steps]
