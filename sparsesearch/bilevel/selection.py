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
        return self._allowed({name: int((profile > threshold).sum()) for name, profile in self._profiles.items()})

    def _allowed(self, counts: Mapping[str, int]) -> dict[str, int]:
        levels = {name: self.units[name].levels for name in counts}
        return {name: min(max(count, levels[name][-1]), levels[name][0]) for name, count in counts.items()}

    def threshold(self, size: Size, wanted: torch.Tensor) -> float:
        """The lowest threshold at which no cost exceeds what is wanted, (bounds,) shares of dense."""
        low = min(float(p.min()) for p in self._profiles.values())
        high = max(float(p.max()) for p in self._profiles.values())
        low -= abs(low) * 1e-6 + 1e-12
        # What lies above `high` is counted, what lies between the two is still to be told apart.
        undecided, above = dict(self._profiles), dict.fromkeys(self._profiles, 0)
        if self._fits({name: len(profile) for name, profile in undecided.items()}, size, wanted):
            return low
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            higher = {name: profile > middle for name, profile in undecided.items()}
            counts = {name: above[name] + int(mask.sum()) for name, mask in higher.items()}
            if self._fits(counts, size, wanted):
                high, above = middle, counts
                undecided = {name: profile[~higher[name]] for name, profile in undecided.items()}
            else:
                low = middle
                undecided = {name: profile[higher[name]] for name, profile in undecided.items()}
        return high

    def _fits(self, counts: Mapping[str, int], size: Size, wanted: torch.Tensor) -> bool:
        allowed = self._allowed(counts)
        chances = {
            name: between(unit, torch.tensor(float(allowed.get(name, unit.total)))) for name, unit in self.units.items()
        }
        return bool((size.shares(chances) <= wanted + 1e-12).all())

    def masks(self, counts: Mapping[str, int]) -> dict[str, torch.Tensor]:
        """The highest scores, exactly so many of each unit (of each order), as 0 and 1."""
        return {name: best(self.units[name], score, counts[name]) for name, score in self.scores.items()}


def best(unit: Unit, score: torch.Tensor, count: int) -> torch.Tensor:
    """1 where a unit's `count` highest scores (of each order) are, else 0; ties fall to the earlier element."""
    rows = score if unit.is_cut else score.reshape(1, -1)
    total = rows.shape[1]
    if not 0 < count < total:
        return torch.full_like(score, float(count > 0))
    last = rows.kthvalue(total - count + 1, dim=1, keepdim=True).values
    above, equal = rows > last, rows == last
    left = count - above.sum(1, keepdim=True)
    return (above | (equal & (equal.cumsum(1) <= left))).to(rows).view(score.shape)


def _profile(unit: Unit, score: torch.Tensor) -> torch.Tensor:
    if unit.is_cut and len(score) > 1:
        return score.sort(dim=1, descending=True).values.mean(0)
    return score.flatten()
