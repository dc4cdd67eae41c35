"""Learnable thresholds with a cost penalty (LAPP, Zhai et al., 2023, in the form that the abstract gives)."""

from __future__ import annotations

import torch

from sparsesearch.bilevel.base import Decision, Learner, State, StepState, learner, new_parameter
from sparsesearch.bilevel.expected import LevelProbabilities
from sparsesearch.bilevel.relaxed import Factors, RelaxedNetwork
from sparsesearch.supernet.store import UnitFiles


@learner("lapp")
class LAPPLearner(Learner):
    """Learns a threshold per unit; elements are kept if their weights' size, relative to the unit's mean, exceeds it.

    The size is the root mean square. The forward pass uses a step function, the backward pass a sigmoid. The penalty is
    w max(0, log(cost / target)); the paper's bypass convolutions are left out, since they would stay in the network.
    """

    mask_numbers_per_weight = 14

    def __init__(self, relaxed: RelaxedNetwork, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        for name in self.units:
            self.parameters[name] = new_parameter(torch.zeros((), device=self.device))

    def factors(self, step: StepState) -> Factors:
        return {name: self._mask(name) for name in self.units}

    def _sizes(self, name: str) -> torch.Tensor:
        """Return the sizes of a unit's elements relative to their mean, in the shape of its factors."""
        root = self.relaxed.mean_squares(self.units[name]).clamp_min(1e-20).sqrt()
        return root / root.mean().detach().clamp_min(1e-20)

    def _mask(self, name: str) -> torch.Tensor:
        above = self._sizes(name) - self.parameters[name]
        soft = torch.sigmoid(above / self.options.temperature)
        return (above > 0).to(soft) + soft - soft.detach()

    def probabilities(self) -> LevelProbabilities:
        return self.probabilities_around({name: self.element_count(name, self._mask(name)) for name in self.units})

    def penalty(self, step: StepState) -> torch.Tensor:
        """Return w max(0, log(cost / target)), summed over the bounds, a scalar."""
        shares = step.target.expected_shares(self.probabilities())
        excess = (shares.clamp_min(1e-12) / step.target_shares.clamp_min(1e-12)).log().clamp_min(0)
        return float(self.options.cost_weight) * excess.sum()

    def decide(self, step: StepState) -> Decision:
        with torch.no_grad():
            scores: State = {name: self._sizes(name) - self.parameters[name] for name in self.units}
            kept = {name: float(self.element_count(name, score > 0)) for name, score in scores.items()}
        return Decision(kept, scores)
