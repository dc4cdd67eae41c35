"""One ranking over all units: the highest scores stay, as many as the size allows."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sparsesearch.bilevel.base import Size
from sparsesearch.bilevel.expected import between
from sparsesearch.space import Unit

# Halvings of the range of scores: enough to tell any two floats of the upper half of it apart.
HALVINGS = 40
Scores = Mapping[str, torch.Tensor]


class Ranking:
    """Scores of the elements of all units, and which stay above a threshold."""

    def __init__(self, units: Mapping[str, Unit], scores: Scores) -> None:
        """
        Args:
            scores: by name of unit: of a cut (orders, elements), each order keeping equally many; else in any shape.
        """
        self.units, self.scores = units, {name: score.detach() for name, score in scores.items()}
        # Orders keep equally many: the n-th best of all of them count as one element.
        self._profiles = {n: _profile(units[n], score) for n, score in self.scores.items()}

    def counts(self, threshold: float) -> dict[str, int]:
        """Elements of each unit (of each order) above a threshold, within what its levels allow."""
        found = {}
        for name, profile in self._profiles.items():
            levels = self.units[name].levels
            found[name] = min(max(int((profile > threshold).sum()), levels[-1]), levels[0])
        return found

    def threshold(self, size: Size, wanted: torch.Tensor) -> float:
        """The lowest threshold at which no cost exceeds what is wanted, (bounds,) shares of dense."""
        low = min(float(p.min()) for p in self._profiles.values())
        high = max(float(p.max()) for p in self._profiles.values())
        low -= abs(low) * 1e-6 + 1e-12
        if self._fits(low, size, wanted):
            return low
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if self._fits(middle, size, wanted) else (middle, high)
        return high

    def _fits(self, threshold: float, size: Size, wanted: torch.Tensor) -> bool:
        counts = self.counts(threshold)
        chances = {
            name: between(unit, torch.tensor(float(counts.get(name, unit.total)))) for name, unit in self.units.items()
        }
        return bool((size.shares(chances) <= wanted + 1e-12).all())

    def masks(self, counts: Mapping[str, int]) -> dict[str, torch.Tensor]:
        """The highest scores, exactly so many of each unit (of each order), as 0 and 1."""
        return {name: best(self.units[name], score, counts[name]) for name, score in self.scores.items()}


def best(unit: Unit, score: torch.Tensor, count: int) -> torch.Tensor:
    """1 where a unit's `count` highest scores (of each order) are, else 0; ties fall to the earlier element."""
    rows = score if unit.is_cut else score.reshape(1, -1)
    chosen = rows.argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(rows).scatter_(1, chosen, 1.0).view(score.shape)


def _profile(unit: Unit, score: torch.Tensor) -> torch.Tensor:
    if unit.is_cut and len(score) > 1:
        return score.sort(dim=1, descending=True).values.mean(0)
    return score.flatten()
