"""Integer programming (HiGHS) under any limits at once."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from sparsesearch.arrays import Floats, Ints
from sparsesearch.errors import problem
from sparsesearch.searchers.exact.additive import Table
from sparsesearch.searchers.exact.joint_choices import Box, joint_choices, units_by_part
from sparsesearch.space import COSTS, Genome, Limit, Part, Space
from sparsesearch.space.cost import cost_index
from sparsesearch.space.repair import fill, repair

# After this time HiGHS returns the best solution so far.
SECONDS_PER_GENOME = 20.0
# Relative gaps at which HiGHS stops; larger near a genome, where learned tables are no more accurate than that.
RELATIVE_GAP, RELATIVE_GAP_NEAR = 1e-6, 1e-3


class IntegerProgram:
    """Integer programming (HiGHS), within any limits at once.

    One binary variable a level. Parts that several units touch have a variable for each joint choice, whose marginals
    are the binaries, so that joint costs are exact.
    """

    def __init__(self, space: Space) -> None:
        """Raises InputError SS112 if units that touch one part have too many joint choices."""
        self.space = space
        self.start = np.concatenate([[0], np.cumsum(space.max_levels + 1)])
        groups: dict[tuple[int, ...], list[Part]] = {}
        for part, units in zip(space.parts, units_by_part(space), strict=True):
            groups.setdefault(units, []).append(part)
        groups.pop((), None)
        self.joints = [joint_choices(space, units, parts) for units, parts in groups.items()]
        binaries = int(self.start[-1])
        self.variables = binaries + sum(len(joint.levels) for joint in self.joints if len(joint.units) > 1)
        self.integral = np.arange(self.variables) < binaries
        self.costs = np.zeros((len(COSTS), self.variables))
        dense = space.costs.totals(space.dense.levels)
        self.fixed = dense - np.sum([joint.costs[0] for joint in self.joints], axis=0, dtype=np.int64)
        self._rows: list[int] = []
        self._columns: list[int] = []
        self._values: list[float] = []
        self._right_sides: list[float] = []
        for first, after in itertools.pairwise(self.start):
            self._add_equation(np.arange(first, after), [], 1.0)
        self._add_costs()
        size = (len(self._right_sides), self.variables)
        self.equations = coo_array((self._values, (self._rows, self._columns)), shape=size).tocsr()

    def _add_equation(self, plus: Ints, minus: Sequence[int], right_side: float) -> None:
        """Add an equation: the sum of some variables less the sum of others equals a number."""
        row = len(self._right_sides)
        self._rows += [row] * (len(plus) + len(minus))
        self._columns += [*plus.tolist(), *minus]
        self._values += [1.0] * len(plus) + [-1.0] * len(minus)
        self._right_sides.append(right_side)

    def _add_costs(self) -> None:
        first = int(self.start[-1])
        for joint in self.joints:
            if len(joint.units) == 1:
                self.costs[:, self.start[joint.units[0]] + joint.levels[:, 0]] += joint.costs.T
                continue
            self.costs[:, first : first + len(joint.levels)] = joint.costs.T
            for i, unit in enumerate(joint.units):
                for level in range(int(joint.levels[:, i].max()) + 1):
                    variables = first + np.flatnonzero(joint.levels[:, i] == level)
                    self._add_equation(variables, [int(self.start[unit]) + level], 0.0)
            first += len(joint.levels)

    def solve(self, table: Table, limits: Sequence[Limit], near: Box | None = None) -> list[Genome]:
        """Solve as `Solver.solve`."""
        return [
            self._solve_within(table, self.space.with_limits([*self.space.limits, limit]), near) for limit in limits
        ]

    def _upper_bounds(self, box: Box | None) -> Floats:
        """Return the upper bound of each variable, (variables,)."""
        upper = np.ones(self.variables)
        if box is not None:
            low, high = np.repeat(box, self.space.max_levels + 1, axis=1)
            level = np.arange(self.start[-1]) - np.repeat(self.start[:-1], self.space.max_levels + 1)
            upper[: self.start[-1]] = (level >= low) & (level <= high)
        return upper

    def _solve_within(self, table: Table, space: Space, near: Box | None) -> Genome:
        columns = [cost_index(bound.cost) for bound in space.bounds]
        maxima = np.array([bound.maximum for bound in space.bounds], dtype=np.int64) - self.fixed[columns]
        # Relative to the limits, so that HiGHS's tolerance is relative.
        scale = np.maximum(np.abs(maxima), 1).astype(np.float64)
        harm = np.zeros(self.variables)
        harm[: self.start[-1]] = np.concatenate(table)
        with _stdout_to_stderr():
            result = milp(
                harm / max(np.abs(harm).max(), 1e-12),
                integrality=self.integral,
                bounds=Bounds(0, self._upper_bounds(near)),
                constraints=[
                    LinearConstraint(self.equations, self._right_sides, self._right_sides),
                    LinearConstraint(self.costs[columns] / scale[:, None], -np.inf, maxima / scale),
                ],
                options={
                    "time_limit": SECONDS_PER_GENOME,
                    "mip_rel_gap": RELATIVE_GAP if near is None else RELATIVE_GAP_NEAR,
                },
            )
        if result.x is None:
            raise problem("SS405", f"no genome meets {', '.join(bound.text for bound in space.bounds)}.")
        solution = Genome.of(int(result.x[a:b].argmax()) for a, b in itertools.pairwise(self.start))
        # HiGHS meets limits only up to its tolerance, so the solution is repaired.
        genome = repair(space, solution, np.random.default_rng(0))
        return fill(space, genome) if near is None else genome


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Redirect standard output, on which HiGHS may print remarks, to standard error."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
