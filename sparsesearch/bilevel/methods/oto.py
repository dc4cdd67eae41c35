"""OTO: groups that are chosen to go are pushed to zero while everything trains (DHSPG, Chen et al., ICLR 2023)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sparsesearch.bilevel.base import Decision, Learner, Moment, State, learner
from sparsesearch.bilevel.relaxed import Openings, Relaxed, gathered, opened
from sparsesearch.bilevel.selection import Ranking
from sparsesearch.supernet.store import UnitFiles


@learner("oto")
class HalfSpace(Learner):
    """Zero-invariant groups, the parameters that write an element, trained to zero and cut.

    In the warm-up saliencies |Σ w g| are summed; then the least salient groups are chosen, as many as the size takes.
    From then until the end of the ramp their weights shrink to nothing, in equal steps of what is left, and a group
    goes to zero at once where its step x' leaves the half-space of x: <x', x> < ε |x|². Groups that were cut stay zero.
    """

    def __init__(self, relaxed: Relaxed, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        for name, unit in self.units.items():
            shape = relaxed.shape(unit)
            # What each group is worth, what stays of those chosen to go, and how far the warm-up has chosen.
            self.kept_beside[f"{name}:worth"] = torch.zeros(shape, device=self.device)
            self.kept_beside[f"{name}:stays"] = torch.ones(shape, device=self.device)
            self.kept_beside[f"{name}:alive"] = torch.ones(shape, device=self.device)
        self.kept_beside["chosen"] = torch.zeros(())

    def begin(self, size: object) -> None:
        self.kept_beside["chosen"] = torch.zeros(())

    def openings(self, moment: Moment) -> Openings:
        return {}

    @property
    def remembers(self) -> list[str]:
        return sorted({name for unit in self.units.values() for name, _ in self.relaxed.writers(unit)})

    def weights_stepped(self, moment: Moment, before: Mapping[str, torch.Tensor]) -> None:
        if moment.done < self.options.warmup:
            self._weigh(before)
        else:
            if not self.kept_beside["chosen"]:
                self._choose(moment)
            self._push(moment, before)
        self._hold()

    def _weigh(self, before: Mapping[str, torch.Tensor]) -> None:
        own = self.relaxed.weights.own
        for name, unit in self.units.items():
            total = torch.zeros(self.relaxed.shape(unit), device=self.device)
            for tensor, slot in self.relaxed.writers(unit):
                gradient = own[tensor].grad
                if gradient is not None:
                    total += gathered(before[tensor] * gradient, slot, self.relaxed.network.cuts[name])[0]
            self.kept_beside[f"{name}:worth"] += total.abs()

    def _choose(self, moment: Moment) -> None:
        """Which groups stay at the size; those without a saliency are ranked by magnitude."""
        scores = {}
        for name, unit in self.units.items():
            worth = self.kept_beside[f"{name}:worth"]
            scores[name] = worth if bool(worth.any()) else self.relaxed.size(unit).detach()
            scores[name] = scores[name] * self.kept_beside[f"{name}:alive"]
        ranking = Ranking(self.units, scores)
        counts = ranking.counts(ranking.threshold(moment.size, moment.size.wanted(1.0)))
        for name, mask in ranking.masks(counts).items():
            self.kept_beside[f"{name}:stays"] = mask
        self.kept_beside["chosen"] = torch.ones(())

    def _push(self, moment: Moment, before: Mapping[str, torch.Tensor]) -> None:
        # In equal steps: what is left of the way, as a share of what was left before this step.
        left = 1.0 - moment.ramped - moment.stride / 2
        shrink = left / (left + moment.stride) if left > 1e-9 else 0.0
        own = self.relaxed.weights.own
        for name, unit in self.units.items():
            stays, alive = self.kept_beside[f"{name}:stays"], self.kept_beside[f"{name}:alive"]
            turned, length = torch.zeros_like(stays), torch.zeros_like(stays)
            cut = self.relaxed.network.cuts[name]
            for tensor, slot in self.relaxed.writers(unit):
                turned += gathered(own[tensor].detach() * before[tensor], slot, cut)[0]
                length += gathered(before[tensor].square(), slot, cut)[0]
            gone = (stays == 0) & ((turned < self.options.half_space * length) | (shrink == 0))
            alive[gone] = 0.0
            factor = torch.where(stays == 0, torch.full_like(stays, shrink), torch.ones_like(stays))
            self._multiply(name, factor)

    def _hold(self) -> None:
        for name in self.units:
            self._multiply(name, self.kept_beside[f"{name}:alive"])

    def _multiply(self, name: str, factor: torch.Tensor) -> None:
        with torch.no_grad():
            for tensor, slot in self.relaxed.writers(self.units[name]):
                parameter = self.relaxed.weights.own[tensor]
                parameter.copy_(opened(parameter, slot, factor))

    def decide(self, moment: Moment) -> Decision:
        stays: State = {name: self.kept_beside[f"{name}:stays"] for name in self.units}
        kept = {name: float(self.counted(name, mask)) for name, mask in stays.items()}
        # Among those that stay or go together, the worthier ones first, for when a size is repaired.
        worth = {n: self.kept_beside[f"{n}:worth"] for n in stays}
        scores = {n: mask * 2 + worth[n] / worth[n].max().clamp_min(1e-30) for n, mask in stays.items()}
        return Decision(kept, scores)
