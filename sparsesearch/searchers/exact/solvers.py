"""Exact minima of the additive model under cost limits: dynamic programming, and integer programming for any limits.

Costs of units that share tensors are not additive; both solvers use their exact joint costs.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sparsesearch.arrays import Floats, Ints
from sparsesearch.errors import InputError, problem
from sparsesearch.searchers.exact.additive import Table
from sparsesearch.space import COSTS, Genome, Limit, Part, Space
from sparsesearch.space.cost import CostModel, cost_index
from sparsesearch.space.repair import fill, repair

# Buckets of the budget in dynamic programming, where exact steps would be more.
BUCKETS = 10_000
# Lowest and highest level of each unit, both (units,).
Box = tuple[Ints, Ints]
# Joint choices of units that share tensors, at most.
CHOICES = 1_000_000
# Seconds that HiGHS has for one genome; then the best so far is taken.
SECONDS = 20.0
# Relative gaps at which HiGHS stops: learned tables, which are asked near a genome, are not known any better.
GAP, GAP_NEAR = 1e-6, 1e-3


class Solver(Protocol):
    """Minima of tables over one space, whose joint costs are worked out once."""

    space: Space

    def __init__(self, space: Space) -> None:
        """Raises InputError SS112 where it cannot take the space."""
        ...

    def solve(self, table: Table, limits: Sequence[Limit], near: Box | None = None) -> list[Genome]:
        """A genome for each limit, of least predicted loss within it and the space's own limits.

        Args:
            near: bounds on levels, which some genome within the limits meets.

        Raises InfeasibleError SS405 where there is none.
        """
        ...


@dataclass(frozen=True)
class Joint:
    """Units that share tensors, joint levels of them, and exact costs of the tensors that they touch.

    Attributes:
        units: indices in the space, (units,).
        levels: (choices, units); of `_joint` all there are, dense first.
        costs: in the order of `COSTS`, (choices, costs).
    """

    units: tuple[int, ...]
    levels: Ints
    costs: Ints

    def within(self, box: Box | None) -> Joint:
        """Only the choices whose levels are in the box."""
        if box is None:
            return self
        low, high = (bound[list(self.units)] for bound in box)
        inside = ((self.levels >= low) & (self.levels <= high)).all(axis=1)
        return Joint(self.units, self.levels[inside], self.costs[inside])

    def harm(self, table: Table) -> Floats:
        """What the table predicts for each choice."""
        total: Floats = np.sum([table[unit][self.levels[:, i]] for i, unit in enumerate(self.units)], axis=0)
        return total


def _joint(space: Space, units: Sequence[int], parts: Sequence[Part]) -> Joint:
    own = [space.units[u] for u in units]
    count = math.prod(len(unit.levels) for unit in own)
    if count > CHOICES:
        raise problem(
            "SS112",
            f"{own[0].name} and {len(own) - 1} units that share tensors with it have {count:,} joint choices; "
            f"at most {CHOICES:,}.",
            fix="Give them fewer levels, or use another searcher.",
        )
    levels = np.array(list(itertools.product(*(range(len(unit.levels)) for unit in own))), dtype=np.int64)
    model = CostModel(own, parts, space.bytes_per_weight)
    totals = [model.totals(some) for some in np.array_split(levels, max(1, count // 10_000))]
    return Joint(tuple(units), levels, np.concatenate(totals))


def _touching(space: Space) -> list[tuple[int, ...]]:
    """For each part the units whose levels change its cost."""
    position = {unit.name: i for i, unit in enumerate(space.units)}
    names = [(*part.cuts, part.sparsity, part.drop) for part in space.parts]
    return [tuple(sorted({position[n] for n in each if n is not None})) for each in names]


def clusters(space: Space) -> list[Joint]:
    """All units, in groups whose costs add up; raises InputError SS112 where a group has too many joint choices."""
    touching = _touching(space)
    pairs = np.array([(units[0], unit) for units in touching for unit in units[1:]], dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(space.units),) * 2)
    count, label = connected_components(graph, directed=False)
    parts: list[list[Part]] = [[] for _ in range(count)]
    for part, units in zip(space.parts, touching, strict=True):
        if units:
            parts[label[units[0]]].append(part)
    return [_joint(space, np.flatnonzero(label == i).tolist(), parts[i]) for i in range(count)]


class DynamicProgram:
    """Dynamic programming over the budget of one cost, in one sweep for all limits (Xu et al., ICCV 2023).

    Exact where the budget has at most `BUCKETS` steps of the costs' greatest common divisor; else costs are rounded up
    to buckets, and what that leaves is filled.
    """

    def __init__(self, space: Space) -> None:
        """Raises InputError SS112 where limits are on several costs, or groups have too many joint choices."""
        self.space = space
        one_cost(space)
        self.joints = clusters(space)

    def solve(self, table: Table, limits: Sequence[Limit], near: Box | None = None) -> list[Genome]:
        """As `Solver.solve`; raises InputError SS112 where a limit is on another cost than the space's own."""
        (name,) = {one_cost(self.space.with_limits([*self.space.limits, limit])) for limit in limits}
        column = cost_index(name)
        joints = [joint.within(near) for joint in self.joints]
        fronts = [frontier(joint.units, joint.levels, joint.costs[:, column], joint.harm(table)) for joint in joints]
        fixed = self.space.dense_costs[name] - sum(int(joint.costs[0, column]) for joint in self.joints)
        return cheapest(self.space, fronts, fixed, limits, grow=near is None)


def cheapest(
    space: Space, fronts: Sequence[Front], fixed: int, limits: Sequence[Limit], grow: bool = True
) -> list[Genome]:
    """For each limit a genome of least harm within it and the space's own; raises InfeasibleError SS405.

    Args:
        fronts: of groups of units, whose costs and harms add up.
        fixed: cost of what the fronts do not count.
        limits: all on the cost of the fronts.
        grow: fill what rounding to buckets left of the budget.
    """
    spaces = [space.with_limits([*space.limits, limit]) for limit in limits]
    least = fixed + sum(int(front.cost[0]) for front in fronts)
    rooms = [min(bound.maximum for bound in limited.bounds) - least for limited in spaces]
    if min(rooms, default=0) < 0:
        raise problem("SS405", f"no genome meets {limits[int(np.argmin(rooms))].text}.")
    if not rooms:
        return []
    step = _step(fronts, max(rooms))
    best, choices = _sweep(fronts, step, max(rooms) // step)
    found = [_backtrack(space, fronts, choices, step, int(best[: r // step + 1].argmin())) for r in rooms]
    return [fill(limited, genome) for limited, genome in zip(spaces, found, strict=True)] if grow else found


def limits_between(space: Space, cost: str, sizes: int) -> list[Limit]:
    """The space's own first limit, and `sizes` even steps of a cost between it (or dense) and the smallest genome."""
    return [*space.limits[:1], *limits_at(space, cost, np.linspace(0, 1, sizes + 2)[1:-1])]


def limits_at(space: Space, cost: str, shares: npt.ArrayLike) -> list[Limit]:
    """Limits at shares of the way from the smallest genome's cost, 0, to the space's own first limit or dense, 1."""
    smallest = space.costs.named(space.smallest.levels)[cost]
    largest = space.bounds[0].maximum if space.bounds else space.dense_costs[cost]
    steps = (smallest + (largest - smallest) * np.asarray(shares)).astype(np.int64).tolist()
    return [Limit.parse(f"{cost}<={step}") for step in steps]


def one_cost(space: Space) -> str:
    """The cost that all limits are on; empty where there are none."""
    names = sorted({bound.cost for bound in space.bounds})
    if len(names) > 1:
        raise problem(
            "SS112",
            f"dynamic programming takes limits on one cost, not on {' and '.join(names)}.",
            fix="Use searcher milp.",
        )
    return names[0] if names else ""


@dataclass(frozen=True)
class Front:
    """Choices of a group that no other beats in both cost and harm, cheapest first."""

    units: Sequence[int]
    levels: Ints
    cost: Ints
    harm: Floats

    def used(self, step: int) -> list[int]:
        """Steps of budget that each choice takes beyond the cheapest."""
        return [-(-int(extra) // step) for extra in self.cost - self.cost[0]]


def frontier(units: Sequence[int], levels: Ints, cost: Ints, harm: Floats) -> Front:
    """Of all choices, (choices, units), those that no other beats."""
    order = np.lexsort((harm, cost))
    keep = order[np.diff(np.minimum.accumulate(harm[order]), prepend=np.inf) < 0]
    return Front(list(units), levels[keep], cost[keep], harm[keep])


def _step(fronts: Sequence[Front], room: int) -> int:
    exact = max(1, int(np.gcd.reduce(np.concatenate([front.cost - front.cost[0] for front in fronts]))))
    return exact if room // exact <= BUCKETS else -(-room // BUCKETS)


def _sweep(fronts: Sequence[Front], step: int, steps: int) -> tuple[Floats, list[Ints]]:
    """The least harm at exactly each number of steps, and each group's choice there."""
    best, choices = np.append(0.0, np.full(steps, np.inf)), []
    for front in fronts:
        options = np.full((len(front.harm), steps + 1), np.inf)
        for i, width in enumerate(front.used(step)):
            if width <= steps:
                options[i, width:] = best[: steps + 1 - width] + front.harm[i]
        choices.append(options.argmin(axis=0))
        best = options.min(axis=0)
    return best, choices


def _backtrack(space: Space, fronts: Sequence[Front], choices: list[Ints], step: int, at: int) -> Genome:
    levels = np.zeros(len(space.units), dtype=np.int64)
    for front, choice in zip(reversed(fronts), reversed(choices), strict=True):
        chosen = int(choice[at])
        levels[front.units] = front.levels[chosen]
        at -= front.used(step)[chosen]
    return Genome.of(levels)


class IntegerProgram:
    """Integer programming (HiGHS), within any limits at once.

    One binary a level. Parts that several units touch have a variable for each joint choice, whose marginals are the
    binaries, so that joint costs are exact.
    """

    def __init__(self, space: Space) -> None:
        """Raises InputError SS112 where units that touch one part have too many joint choices."""
        self.space = space
        self.start = np.concatenate([[0], np.cumsum(space.max_levels + 1)])
        groups: dict[tuple[int, ...], list[Part]] = {}
        for part, units in zip(space.parts, _touching(space), strict=True):
            groups.setdefault(units, []).append(part)
        groups.pop((), None)
        self.joints = [_joint(space, units, parts) for units, parts in groups.items()]
        binaries = int(self.start[-1])
        self.columns = binaries + sum(len(joint.levels) for joint in self.joints if len(joint.units) > 1)
        self.integral = np.arange(self.columns) < binaries
        self.costs = np.zeros((len(COSTS), self.columns))
        dense = space.costs.totals(space.dense.levels)
        self.fixed = dense - np.sum([joint.costs[0] for joint in self.joints], axis=0, dtype=np.int64)
        self._rows: list[int] = []
        self._at: list[int] = []
        self._values: list[float] = []
        self._equals: list[float] = []
        for first, after in itertools.pairwise(self.start):
            self._tie(np.arange(first, after), [], 1.0)
        self._add_costs()
        size = (len(self._equals), self.columns)
        self.ties = coo_array((self._values, (self._rows, self._at)), shape=size).tocsr()

    def _tie(self, plus: Ints, minus: Sequence[int], equals: float) -> None:
        """A row: the sum of some variables less that of others is a number."""
        row = len(self._equals)
        self._rows += [row] * (len(plus) + len(minus))
        self._at += [*plus.tolist(), *minus]
        self._values += [1.0] * len(plus) + [-1.0] * len(minus)
        self._equals.append(equals)

    def _add_costs(self) -> None:
        at = int(self.start[-1])
        for joint in self.joints:
            if len(joint.units) == 1:
                self.costs[:, self.start[joint.units[0]] + joint.levels[:, 0]] += joint.costs.T
                continue
            self.costs[:, at : at + len(joint.levels)] = joint.costs.T
            for i, unit in enumerate(joint.units):
                for level in range(int(joint.levels[:, i].max()) + 1):
                    same = at + np.flatnonzero(joint.levels[:, i] == level)
                    self._tie(same, [int(self.start[unit]) + level], 0.0)
            at += len(joint.levels)

    def solve(self, table: Table, limits: Sequence[Limit], near: Box | None = None) -> list[Genome]:
        """As `Solver.solve`."""
        return [self._within(table, self.space.with_limits([*self.space.limits, limit]), near) for limit in limits]

    def _allowed(self, box: Box | None) -> Floats:
        """The most that each variable may be."""
        allowed = np.ones(self.columns)
        if box is not None:
            low, high = np.repeat(box, self.space.max_levels + 1, axis=1)
            level = np.arange(self.start[-1]) - np.repeat(self.start[:-1], self.space.max_levels + 1)
            allowed[: self.start[-1]] = (level >= low) & (level <= high)
        return allowed

    def _within(self, table: Table, space: Space, near: Box | None) -> Genome:
        wanted = [cost_index(bound.cost) for bound in space.bounds]
        maxima = np.array([bound.maximum for bound in space.bounds], dtype=np.int64) - self.fixed[wanted]
        # In the limits' own size, so that HiGHS's tolerance is relative.
        scale = np.maximum(np.abs(maxima), 1).astype(np.float64)
        harm = np.zeros(self.columns)
        harm[: self.start[-1]] = np.concatenate(table)
        with _stdout_to_stderr():
            found = milp(
                harm / max(np.abs(harm).max(), 1e-12),
                integrality=self.integral,
                bounds=Bounds(0, self._allowed(near)),
                constraints=[
                    LinearConstraint(self.ties, self._equals, self._equals),
                    LinearConstraint(self.costs[wanted] / scale[:, None], -np.inf, maxima / scale),
                ],
                options={"time_limit": SECONDS, "mip_rel_gap": GAP if near is None else GAP_NEAR},
            )
        if found.x is None:
            raise problem("SS405", f"no genome meets {', '.join(bound.text for bound in space.bounds)}.")
        picked = Genome.of(int(found.x[a:b].argmax()) for a, b in itertools.pairwise(self.start))
        # Limits are exact integers; what the tolerance let through is repaired.
        found = repair(space, picked, np.random.default_rng(0))
        return fill(space, found) if near is None else found


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """HiGHS prints remarks where a solution needs another look; standard output is for results."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def solver_of(space: Space) -> Solver:
    """Dynamic programming where it can take the space, since one sweep serves all sizes; else integer programming."""
    try:
        return DynamicProgram(space)
    except InputError:
        return IntegerProgram(space)
