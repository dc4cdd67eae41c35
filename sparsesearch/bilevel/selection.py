"""One ranking over all units: the elements with the highest scores are kept, as many as the cost target allows."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sparsesearch.bilevel.base import CostTarget
from sparsesearch.bilevel.expected import interpolate_levels
from sparsesearch.space import Unit

# Halvings of the range of scores: enough to separate any two floats in the upper half of the range.
HALVINGS = 40
Scores = Mapping[str, torch.Tensor]


class Ranking:
    """Scores of the elements of all units, of which those above a threshold are kept."""

    def __init__(self, units: Mapping[str, Unit], scores: Scores) -> None:
        """
        Args:
            scores: by name of unit; for a cut (orders, elements), where each order keeps equally many; else any shape.
        """
        self.units, self.scores = units, {name: score.detach() for name, score in scores.items()}
        self._profiles = {n: _profile(units[n], score) for n, score in self.scores.items()}

    def counts(self, threshold: float) -> dict[str, int]:
        """Return the elements of each unit (of each order) above a threshold, clipped to the range of its levels."""
        return self._clip({name: int((profile > threshold).sum()) for name, profile in self._profiles.items()})

    def _clip(self, counts: Mapping[str, int]) -> dict[str, int]:
        levels = {name: self.units[name].levels for name in counts}
        return {name: min(max(count, levels[name][-1]), levels[name][0]) for name, count in counts.items()}

    def threshold(self, target: CostTarget, shares: torch.Tensor) -> float:
        """Return the lowest threshold at which no cost exceeds its share of dense; `shares` has shape (bounds,)."""
        low = min(float(p.min()) for p in self._profiles.values())
        high = max(float(p.max()) for p in self._profiles.values())
        low -= abs(low) * 1e-6 + 1e-12
        # Scores above `high` are only counted; those between `low` and `high` are undecided.
        undecided, above = dict(self._profiles), dict.fromkeys(self._profiles, 0)
        if self._fits({name: len(profile) for name, profile in undecided.items()}, target, shares):
            return low
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            higher = {name: profile > middle for name, profile in undecided.items()}
            counts = {name: above[name] + int(mask.sum()) for name, mask in higher.items()}
            if self._fits(counts, target, shares):
                high, above = middle, counts
                undecided = {name: profile[~higher[name]] for name, profile in undecided.items()}
            else:
                low = middle
                undecided = {name: profile[higher[name]] for name, profile in undecided.items()}
        return high

    def _fits(self, counts: Mapping[str, int], target: CostTarget, shares: torch.Tensor) -> bool:
        """Return whether no expected cost exceeds its share if units keep these counts."""
        clipped_counts = self._clip(counts)
        kept = {name: torch.tensor(float(clipped_counts.get(name, unit.total))) for name, unit in self.units.items()}
        probabilities = {name: interpolate_levels(unit, kept[name]) for name, unit in self.units.items()}
        return bool((target.expected_shares(probabilities) <= shares + 1e-12).all())

    def masks(self, counts: Mapping[str, int]) -> dict[str, torch.Tensor]:
        """Return masks (0 and 1) of the highest scores, in their shapes, so many of each unit (of each order)."""
        return {name: top_mask(self.units[name], score, counts[name]) for name, score in self.scores.items()}


def top_mask(unit: Unit, score: torch.Tensor, count: int) -> torch.Tensor:
    """Return 1 for a unit's `count` highest scores (of each order), else 0, in the shape of `score`.

    Of equal scores the earlier element is kept.

    Args:
        score: for a cut (orders, elements), else any shape.
    """
    rows = score if unit.is_cut else score.reshape(1, -1)
    total = rows.shape[1]
    if not 0 < count < total:
        return torch.full_like(score, float(count > 0))
    last = rows.kthvalue(total - count + 1, dim=1, keepdim=True).values
    above, equal = rows > last, rows == last
    left = count - above.sum(1, keepdim=True)
    return (above | (equal & (equal.cumsum(1) <= left))).to(rows).view(score.shape)


def _profile(unit: Unit, score: torch.Tensor) -> torch.Tensor:
    """Return the scores that are ranked, (elements,); orders of a cut keep equally many, so their n-th best are one."""
    if unit.is_cut and len(score) > 1:
        return score.sort(dim=1, descending=True).values.mean(0)
    return score.flatten()
