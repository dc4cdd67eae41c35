"""Learnable sparsity rates over the levels of any pruner (BESA, Xu et al., ICLR 2024)."""

from __future__ import annotations

from typing import Any

import torch

from sparsesearch.bilevel.base import FLOAT_BYTES, Decision, Footprint, Learner, StepState, learner, new_parameter
from sparsesearch.bilevel.expected import LevelProbabilities
from sparsesearch.bilevel.levels import level_masks, mask_count, nearest_level
from sparsesearch.bilevel.relaxed import Factors, RelaxedNetwork
from sparsesearch.models.network import Network
from sparsesearch.space import Space
from sparsesearch.supernet.store import UnitFiles


@learner("besa")
class BESALearner(Learner):
    """Learns probabilities of the levels of each matrix; a weight is kept with the probability that a level keeps it.

    The forward pass uses the mask of the level nearest to the mean, the backward pass the soft mask (straight through).
    The candidates are the store's levels, so weights are scored by the pruner that built them. The published softmax of
    a sigmoid of the logits keeps all probabilities within a factor e of each other, so rates could not leave the
    middle: a plain softmax is used. The published budget is per block; here it is one for the network.
    """

    mask_numbers_per_weight = 2
    returns_weights = False

    def __init__(self, relaxed: RelaxedNetwork, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        self.blockwise_loss = self.options.loss == "blocks"
        self._masks = {}
        for name, unit in self.units.items():
            self.parameters[name] = new_parameter(torch.zeros(len(unit.levels), device=self.device))
            self._masks[name] = level_masks(files, unit, relaxed.shape(unit), self.device)

    @classmethod
    def footprint(cls, space: Space, network: Network, options: Any, pattern: str | None) -> Footprint:
        numbers, masks = super().footprint(space, network, options, pattern)
        # A byte per weight and, for the mean of all levels, a float.
        return Footprint(numbers, masks + mask_count(space, network) * (1 + FLOAT_BYTES))

    def factors(self, step: StepState) -> Factors:
        factors = {}
        for name, probabilities in self.probabilities().items():
            soft = soft_mask(self._masks[name], probabilities)
            hard = self._masks[name][self._nearest(name, probabilities)]
            factors[name] = hard + soft - soft.detach()
        return factors

    def probabilities(self) -> LevelProbabilities:
        return {name: torch.softmax(logits, 0) for name, logits in self.parameters.items()}

    def _mean(self, name: str, probabilities: torch.Tensor) -> float:
        """Return the expected number of kept weights; probabilities (levels,)."""
        levels = torch.tensor(self.units[name].levels, dtype=torch.float64, device=probabilities.device)
        return float((probabilities.detach().double() * levels).sum())

    def _nearest(self, name: str, probabilities: torch.Tensor) -> int:
        return nearest_level(self.units[name].levels, self._mean(name, probabilities))

    def penalty(self, step: StepState) -> torch.Tensor:
        """Return β Σ ((s - S) / S)² of the expected shares s and the target shares S of the dense costs."""
        shares, target = step.target.expected_shares(self.probabilities()), step.target_shares
        return float(self.options.cost_weight) * ((shares - target) / target.clamp_min(1e-12)).square().sum()

    def decide(self, step: StepState) -> Decision:
        return Decision({name: self._mean(name, p) for name, p in self.probabilities().items()})


def soft_mask(masks: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Return the probability that each weight is kept: the sum over the levels that keep it.

    Args:
        masks: weights that each level keeps, (levels, *shape) bool.
        probabilities: probability of each level, (levels,).

    Returns:
        In the shape of the weight.
    """
    soft: torch.Tensor = torch.tensordot(probabilities, masks.to(probabilities), dims=1)
    return soft
