"""PDP: soft masks computed from the weights (Cho et al., NeurIPS 2023)."""

from __future__ import annotations

import torch

from sparsesearch.bilevel.base import CostTarget, Decision, Learner, State, StepState, learner
from sparsesearch.bilevel.relaxed import Factors
from sparsesearch.bilevel.selection import Ranking


@learner("pdp")
class PDPLearner(Learner):
    """Learns only the weights: the factor of an element is sigmoid((w² - t²) / τ).

    w² is the mean square of the element's weights. t² lies midway between the largest removed and the smallest kept
    element. The number of kept elements of each unit comes from one ranking of the whole network when a target begins,
    and is approached over the ramp. In that ranking squares of groups are relative to the mean square of their unit.
    """

    mask_numbers_per_weight = 6

    def begin(self, target: CostTarget) -> None:
        ranking = Ranking(self.units, self._scores())
        counts = ranking.counts(ranking.threshold(target, target.shares_at(1.0)))
        for name, unit in self.units.items():
            before = self.buffers.get(f"{name}:end", torch.tensor(float(unit.total)))
            self.buffers[f"{name}:start"] = before
            self.buffers[f"{name}:end"] = torch.tensor(float(counts[name]))

    def _scores(self) -> State:
        sizes = {name: self.relaxed.mean_squares(unit) for name, unit in self.units.items()}
        return {
            n: s if self.units[n].kind == "sparsity" else s / s.mean().detach().clamp_min(1e-30)
            for n, s in sizes.items()
        }

    def _count(self, name: str, ramp: float) -> int:
        first, last = (float(self.buffers[f"{name}:{end}"]) for end in ("start", "end"))
        return round(first + (last - first) * min(ramp, 1.0))

    def factors(self, step: StepState) -> Factors:
        factors = {}
        for name, unit in self.units.items():
            square, count = self.relaxed.mean_squares(unit), self._count(name, step.ramp)
            if count < unit.total:
                factors[name] = soft_mask(square, count, unit.is_cut, self.options.temperature)
        return factors

    def decide(self, step: StepState) -> Decision:
        kept = {name: float(self._count(name, 1.0)) for name in self.units}
        return Decision(kept, {name: self.relaxed.mean_squares(unit).detach() for name, unit in self.units.items()})


def soft_mask(square: torch.Tensor, count: int, by_order: bool, temperature: float) -> torch.Tensor:
    """Return sigmoid((square - t²) / τ), t² midway between the `count`-th largest (of each order) and the next one.

    Args:
        square: (orders, elements) if `by_order`, else any shape.
        count: number of kept elements (of each order), less than all.
        by_order: whether each order has its own threshold.
    """
    rows = square.detach() if by_order else square.detach().reshape(1, -1)
    total = rows.shape[1]
    below = rows.kthvalue(total - count, dim=1, keepdim=True).values
    above = rows.kthvalue(total - count + 1, dim=1, keepdim=True).values if count else below
    middle = (below + above) / 2
    return torch.sigmoid((square - (middle if by_order else middle.view(()))) / temperature)
