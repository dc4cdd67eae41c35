"""Learnable thresholds with a cost penalty (LAPP, Zhai et al., 2023, in the form that the abstract gives)."""

from __future__ import annotations

import torch

from sparsesearch.bilevel.base import Decision, Learner, Moment, State, learned, learner
from sparsesearch.bilevel.expected import Chances
from sparsesearch.bilevel.relaxed import Openings, Relaxed
from sparsesearch.supernet.store import UnitFiles


@learner("lapp")
class Thresholds(Learner):
    """An element stays while the size of its weights, relative to its unit's mean, exceeds the unit's threshold.

    Forward a step, backward a sigmoid. The penalty is w max(0, log(cost / target)); the paper's bypass convolutions
    are left out, since they would stay in the network.
    """

    soft_numbers = 14

    def __init__(self, relaxed: Relaxed, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        for name in self.units:
            self.parameters[name] = learned(torch.zeros((), device=self.device))

    def openings(self, moment: Moment) -> Openings:
        return {name: self._open(name) for name in self.units}

    def _sizes(self, name: str) -> torch.Tensor:
        root = self.relaxed.size(self.units[name]).clamp_min(1e-20).sqrt()
        return root / root.mean().detach().clamp_min(1e-20)

    def _open(self, name: str) -> torch.Tensor:
        above = self._sizes(name) - self.parameters[name]
        soft = torch.sigmoid(above / self.options.temperature)
        return (above > 0).to(soft) + soft - soft.detach()

    def chances(self) -> Chances:
        return self.chances_of({name: self.counted(name, self._open(name)) for name in self.units})

    def penalty(self, moment: Moment) -> torch.Tensor:
        shares = moment.size.shares(self.chances())
        over = (shares.clamp_min(1e-12) / moment.wanted.clamp_min(1e-12)).log().clamp_min(0)
        return float(self.options.cost_weight) * over.sum()

    def decide(self, moment: Moment) -> Decision:
        with torch.no_grad():
            scores: State = {name: self._sizes(name) - self.parameters[name] for name in self.units}
            kept = {name: float(self.counted(name, score > 0)) for name, score in scores.items()}
        return Decision(kept, scores)
