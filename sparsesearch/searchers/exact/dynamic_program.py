"""Dynamic programming over the budget of one cost, for all limits in one sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsesearch.arrays import Floats, Ints
from sparsesearch.errors import problem
from sparsesearch.searchers.exact.additive import Table
from sparsesearch.searchers.exact.joint_choices import Box, independent_groups
from sparsesearch.space import Genome, Limit, Space
from sparsesearch.space.cost import cost_index
from sparsesearch.space.repair import fill

# Budgets of more steps are divided into this many buckets.
MAX_BUDGET_STEPS = 10_000


class DynamicProgram:
    """Dynamic programming over the budget of one cost, in one sweep for all limits (Xu et al., ICCV 2023).

    Exact if the budget has at most `MAX_BUDGET_STEPS` steps of the costs' greatest common divisor; else costs are
    rounded up to buckets, and solutions are grown into the budget that rounding left.
    """

    def __init__(self, space: Space) -> None:
        """Raises InputError SS112 if limits are on several costs, or a group has too many joint choices."""
        self.space = space
        limited_cost(space)
        self.groups = independent_groups(space)

    def solve(self, table: Table, limits: Sequence[Limit], near: Box | None = None) -> list[Genome]:
        """Solve as `Solver.solve`; raises InputError SS112 for a limit on another cost than the space's own."""
        (name,) = {limited_cost(self.space.with_limits([*self.space.limits, limit])) for limit in limits}
        column = cost_index(name)
        groups = [group.restrict(near) for group in self.groups]
        fronts = [cost_front(group.units, group.levels, group.costs[:, column], group.harm(table)) for group in groups]
        fixed = self.space.dense_costs[name] - sum(int(group.costs[0, column]) for group in self.groups)
        return solve_fronts(self.space, fronts, fixed, limits, grow=near is None)


def limited_cost(space: Space) -> str:
    """Return the cost that all limits are on, '' without limits; raises InputError SS112 for several costs."""
    names = sorted({bound.cost for bound in space.bounds})
    if len(names) > 1:
        raise problem(
            "SS112",
            f"dynamic programming takes limits on one cost, not on {' and '.join(names)}.",
            fix="Use searcher milp.",
        )
    return names[0] if names else ""


@dataclass(frozen=True)
class CostFront:
    """Choices of a group of units that no other choice beats in both cost and harm, cheapest first.

    Attributes:
        units: indices in the space, (units,).
        levels: (choices, units).
        cost, harm: cost, and predicted rise of the loss, (choices,).
    """

    units: Sequence[int]
    levels: Ints
    cost: Ints
    harm: Floats

    def budget_steps(self, step: int) -> list[int]:
        """Return the steps of budget, rounded up, that each choice takes beyond the cheapest."""
        return [-(-int(extra) // step) for extra in self.cost - self.cost[0]]


def cost_front(units: Sequence[int], levels: Ints, cost: Ints, harm: Floats) -> CostFront:
    """Return the choices that no other beats, of all choices: levels (choices, units), cost and harm (choices,)."""
    order = np.lexsort((harm, cost))
    keep = order[np.diff(np.minimum.accumulate(harm[order]), prepend=np.inf) < 0]
    return CostFront(list(units), levels[keep], cost[keep], harm[keep])


def solve_fronts(
    space: Space, fronts: Sequence[CostFront], fixed: int, limits: Sequence[Limit], grow: bool = True
) -> list[Genome]:
    """Return for each limit a genome of least harm within it and the space's own limits.

    Args:
        space: the space of the genomes.
        fronts: fronts of groups of units, whose costs and harms add up.
        fixed: cost of all that the fronts do not count.
        limits: limits on the cost of the fronts.
        grow: grow genomes into the budget that rounding to buckets left.

    Raises InfeasibleError SS405 if no genome meets a limit.
    """
    spaces = [space.with_limits([*space.limits, limit]) for limit in limits]
    smallest = fixed + sum(int(front.cost[0]) for front in fronts)
    budgets = [min(bound.maximum for bound in limited.bounds) - smallest for limited in spaces]
    if min(budgets, default=0) < 0:
        raise problem("SS405", f"no genome meets {limits[int(np.argmin(budgets))].text}.")
    if not budgets:
        return []
    step = _step(fronts, max(budgets))
    best, choices = _sweep(fronts, step, max(budgets) // step)
    genomes = [_backtrack(space, fronts, choices, step, int(best[: b // step + 1].argmin())) for b in budgets]
    return [fill(limited, genome) for limited, genome in zip(spaces, genomes, strict=True)] if grow else genomes


def _step(fronts: Sequence[CostFront], budget: int) -> int:
    exact = max(1, int(np.gcd.reduce(np.concatenate([front.cost - front.cost[0] for front in fronts]))))
    return exact if budget // exact <= MAX_BUDGET_STEPS else -(-budget // MAX_BUDGET_STEPS)


def _sweep(fronts: Sequence[CostFront], step: int, steps: int) -> tuple[Floats, list[Ints]]:
    """Return the least harm at exactly each number of steps, (steps + 1,), and each front's choice there."""
    best, choices = np.append(0.0, np.full(steps, np.inf)), []
    for front in fronts:
        options = np.full((len(front.harm), steps + 1), np.inf)
        for i, width in enumerate(front.budget_steps(step)):
            if width <= steps:
                options[i, width:] = best[: steps + 1 - width] + front.harm[i]
        choices.append(options.argmin(axis=0))
        best = options.min(axis=0)
    return best, choices


def _backtrack(space: Space, fronts: Sequence[CostFront], choices: list[Ints], step: int, steps: int) -> Genome:
    """Return the genome of the choices that lead to a number of steps."""
    levels = np.zeros(len(space.units), dtype=np.int64)
    for front, choice in zip(reversed(fronts), reversed(choices), strict=True):
        selected = int(choice[steps])
        levels[front.units] = front.levels[selected]
        steps -= front.budget_steps(step)[selected]
    return Genome.of(levels)
