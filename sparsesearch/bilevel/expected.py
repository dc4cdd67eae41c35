"""Expected costs of a distribution over levels, exact for any table: multilinear in every unit's probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from sparsesearch.space import Space, Unit

# Probability of each level, (levels,), by name of unit; they sum to 1.
LevelProbabilities = Mapping[str, torch.Tensor]


class ExpectedCost:
    """The expected cost of genomes whose units are drawn independently, as a share of the dense cost.

    At probabilities of 0 and 1 it is the counted cost.
    """

    def __init__(self, space: Space, cost: str) -> None:
        self.dense = space.dense_costs[cost]
        tables: dict[tuple[tuple[str, ...], str | None, bool], np.ndarray] = {}
        for index, part in enumerate(space.parts):
            table = space.costs.table(index, cost)
            table = table if part.sparsity else table[0]
            units = (*((part.sparsity,) if part.sparsity else ()), *part.cuts)
            key = (units, part.drop, part.sparsity is not None)
            tables[key] = tables[key] + table if key in tables else table
        self._tables = [
            (units, drop, torch.as_tensor(table / self.dense, dtype=torch.float64))
            for (units, drop, _), table in tables.items()
        ]

    def __call__(self, probabilities: LevelProbabilities) -> torch.Tensor:
        """Return the share of the dense cost, a scalar, differentiable in the probabilities."""
        total = torch.zeros((), dtype=torch.float64)
        for units, drop, table in self._tables:
            value = table
            for unit in reversed(units):
                value = value @ probabilities[unit].double().cpu()
            total = total + (value if drop is None else value * probabilities[drop][0].double().cpu())
        return total


def interpolate_levels(unit: Unit, kept: torch.Tensor) -> torch.Tensor:
    """Return probabilities of the two levels around a number of kept elements, which is their mean; (levels,).

    Args:
        kept: a scalar; numbers outside the levels count as the nearest level.
    """
    levels = torch.tensor(unit.levels, dtype=torch.float64, device=kept.device)
    inside = kept.double().clamp(levels[-1], levels[0])
    upper = int((levels[1:] > inside.detach()).sum().clamp(max=len(levels) - 2))
    share = (inside - levels[upper + 1]) / (levels[upper] - levels[upper + 1])
    zeros = torch.zeros(len(levels), dtype=torch.float64, device=kept.device)
    return zeros.index_put((torch.tensor([upper, upper + 1]),), torch.stack([share, 1 - share]))
