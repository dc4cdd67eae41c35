"""PDP: soft masks made of the weights themselves (Cho et al., NeurIPS 2023)."""

from __future__ import annotations

import torch

from sparsesearch.bilevel.base import Decision, Learner, Moment, Size, State, learner
from sparsesearch.bilevel.relaxed import Openings
from sparsesearch.bilevel.selection import Ranking


@learner("pdp")
class PDP(Learner):
    """Nothing is learned beside the weights: an element is open by sigmoid((w² - t²) / τ).

    t² lies midway between the largest element to go and the smallest to stay; how many stay in each unit is read from
    one ranking of the whole network when a size begins, and is approached over the ramp. w² is the mean square of what
    an element holds. Squares are counted in the mean square of their unit, where groups of all units are ranked.
    """

    soft_numbers = 6

    def begin(self, size: Size) -> None:
        ranking = self._ranking()
        counts = ranking.counts(ranking.threshold(size, size.wanted(1.0)))
        for name, unit in self.units.items():
            before = self.kept_beside.get(f"{name}:end", torch.tensor(float(unit.total)))
            self.kept_beside[f"{name}:start"] = before
            self.kept_beside[f"{name}:end"] = torch.tensor(float(counts[name]))

    def _ranking(self) -> Ranking:
        return Ranking(self.units, self._scores())

    def _scores(self) -> State:
        sizes = {name: self.relaxed.size(unit) for name, unit in self.units.items()}
        return {
            n: s if self.units[n].kind == "sparsity" else s / s.mean().detach().clamp_min(1e-30)
            for n, s in sizes.items()
        }

    def _count(self, name: str, ramped: float) -> int:
        first, last = (float(self.kept_beside[f"{name}:{end}"]) for end in ("start", "end"))
        return round(first + (last - first) * min(ramped, 1.0))

    def openings(self, moment: Moment) -> Openings:
        found = {}
        for name, unit in self.units.items():
            square, count = self.relaxed.size(unit), self._count(name, moment.ramped)
            if count < unit.total:
                found[name] = soft_mask(square, count, unit.is_cut, self.options.temperature)
        return found

    def decide(self, moment: Moment) -> Decision:
        kept = {name: float(self._count(name, 1.0)) for name in self.units}
        return Decision(kept, {name: self.relaxed.size(unit).detach() for name, unit in self.units.items()})


def soft_mask(square: torch.Tensor, count: int, by_order: bool, temperature: float) -> torch.Tensor:
    """sigmoid((square - t²) / τ), t² midway between the `count`-th largest (of each order) and the next one.

    Args:
        count: from 0 to one less than there are.
    """
    rows = square.detach() if by_order else square.detach().reshape(1, -1)
    total = rows.shape[1]
    below = rows.kthvalue(total - count, dim=1, keepdim=True).values
    above = rows.kthvalue(total - count + 1, dim=1, keepdim=True).values if count else below
    middle = (below + above) / 2
    return torch.sigmoid((square - (middle if by_order else middle.view(()))) / temperature)
