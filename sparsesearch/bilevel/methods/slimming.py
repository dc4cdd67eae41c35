"""Scales of elements with a sparsity regulariser: network slimming, polarization, mask sparsity."""

from __future__ import annotations

import torch

from sparsesearch.bilevel.base import CostTarget, Decision, Learner, StepState, learner, new_parameter
from sparsesearch.bilevel.relaxed import Factors, RelaxedNetwork
from sparsesearch.bilevel.selection import Ranking
from sparsesearch.supernet.store import UnitFiles

# Weight of the weights' sizes in the ranking of scales, to decide between equal scales.
TIE_WEIGHT = 1e-3


@learner("slimming")
class SlimmingLearner(Learner):
    """Learns a factor γ in [0, 1] for every element, with the weights; the largest of all units are kept.

    The penalty is the mean over all elements of |γ| (network slimming, Liu et al., ICCV 2017), of t|γ| - |γ - mean γ|
    (polarization, Zhuang et al., NeurIPS 2020, t = `tilt`), or of |γ| over the elements with the smallest weights (mask
    sparsity, Jiang et al., 2023). Its weight grows over the ramp to `strength`.
    """

    mask_numbers_per_weight = 2
    learns_each_weight = True

    def __init__(self, relaxed: RelaxedNetwork, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        for name, unit in self.units.items():
            self.parameters[name] = new_parameter(torch.ones(relaxed.shape(unit), device=self.device))

    def begin(self, target: CostTarget) -> None:
        """Choose, for mask sparsity, the elements with the smallest weights, as many as the target removes."""
        if self.options.regulariser != "mask":
            return
        sizes = self._sizes()
        masks = self._masks(target, {name: s / s.mean().clamp_min(1e-30) for name, s in sizes.items()})
        self.buffers.update({name: 1 - mask for name, mask in masks.items()})

    def _sizes(self) -> dict[str, torch.Tensor]:
        return {name: self.relaxed.mean_squares(unit).detach() for name, unit in self.units.items()}

    def _masks(self, target: CostTarget, scores: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        ranking = Ranking(self.units, scores)
        return ranking.masks(ranking.counts(ranking.threshold(target, target.shares_at(1.0))))

    def factors(self, step: StepState) -> Factors:
        return self.parameters

    def penalty(self, step: StepState) -> torch.Tensor:
        """Return the regulariser of all scales times its weight at this step, a scalar."""
        scales = torch.cat([scale.flatten() for scale in self.parameters.values()])
        return float(self.options.strength) * step.ramp * self._sparsity(scales)

    def _sparsity(self, scales: torch.Tensor) -> torch.Tensor:
        if self.options.regulariser == "mask":
            removed = torch.cat([self.buffers[name].flatten() for name in self.parameters])
            return (scales.abs() * removed).mean()
        if self.options.regulariser == "polarization":
            return (float(self.options.tilt) * scales.abs() - (scales - scales.mean()).abs()).mean()
        return scales.abs().mean()

    def project(self, step: StepState) -> None:
        with torch.no_grad():
            for scale in self.parameters.values():
                scale.clamp_(0, 1)

    def decide(self, step: StepState) -> Decision:
        """Keep the largest scales, and multiply weights by their scales."""
        scales = {name: scale.detach() for name, scale in self.parameters.items()}
        # Of equal scales, as at the ends of their range, those of larger weights are kept.
        scores = {n: scales[n] * (1 + TIE_WEIGHT * s / s.max().clamp_min(1e-30)) for n, s in self._sizes().items()}
        masks = self._masks(step.target, scores)
        kept = {name: float(self.element_count(name, mask)) for name, mask in masks.items()}
        scaled_weights = {name: tensor.detach() for name, tensor in self.relaxed.tensors(scales).items()}
        return Decision(kept, scores, scaled_weights)
