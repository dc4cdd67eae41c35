"""OTO: groups to remove shrink to zero while all weights train (DHSPG, Chen et al., ICLR 2023)."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sparsesearch.bilevel.base import Decision, Learner, State, StepState, learner
from sparsesearch.bilevel.relaxed import Factors, RelaxedNetwork, apply_factor, element_sums
from sparsesearch.bilevel.selection import Ranking
from sparsesearch.supernet.store import UnitFiles

# Suffixes of the buffers of a unit, as checkpoints name them, each in the shape of its factors: the summed saliency of
# each group; 1 for groups that are kept at the target; 0 for groups that are zero.
SALIENCY, KEPT, NONZERO = "worth", "stays", "alive"


@learner("oto")
class OTOLearner(Learner):
    """Trains zero-invariant groups, the parameters that write an element, to zero and cuts them.

    Saliencies |Σ w g| are summed during the warm-up; then the least salient groups are chosen for removal, as many as
    the target requires. From then to the end of the ramp their weights shrink to zero in equal steps; a group becomes
    zero at once if its step x' leaves the half-space of x: <x', x> < ε |x|². Groups that are zero stay zero.
    """

    def __init__(self, relaxed: RelaxedNetwork, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        for name, unit in self.units.items():
            shape = relaxed.shape(unit)
            self.buffers[f"{name}:{SALIENCY}"] = torch.zeros(shape, device=self.device)
            self.buffers[f"{name}:{KEPT}"] = torch.ones(shape, device=self.device)
            self.buffers[f"{name}:{NONZERO}"] = torch.ones(shape, device=self.device)
        self.buffers["chosen"] = torch.zeros(())

    def begin(self, target: object) -> None:
        self.buffers["chosen"] = torch.zeros(())

    def factors(self, step: StepState) -> Factors:
        return {}

    @property
    def remembered_parameters(self) -> list[str]:
        return sorted({name for unit in self.units.values() for name, _ in self.relaxed.writers(unit)})

    def after_weight_step(self, step: StepState, before: Mapping[str, torch.Tensor]) -> None:
        """Add to saliencies during the warm-up; then choose the groups to keep, once, and shrink the others."""
        if step.progress < self.options.warmup:
            self._add_saliencies(before)
        else:
            if not self.buffers["chosen"]:
                self._choose_groups(step)
            self._shrink(step, before)
        self._zero_removed()

    def _add_saliencies(self, before: Mapping[str, torch.Tensor]) -> None:
        weights = self.relaxed.weights.model_parameters
        for name, unit in self.units.items():
            total = torch.zeros(self.relaxed.shape(unit), device=self.device)
            for tensor, slot in self.relaxed.writers(unit):
                gradient = weights[tensor].grad
                if gradient is not None:
                    total += element_sums(before[tensor] * gradient, slot, self.relaxed.network.cuts[name])[0]
            self.buffers[f"{name}:{SALIENCY}"] += total.abs()

    def _choose_groups(self, step: StepState) -> None:
        """Choose the groups that are kept at the target; units without saliencies are ranked by magnitude."""
        scores = {}
        for name, unit in self.units.items():
            saliency = self.buffers[f"{name}:{SALIENCY}"]
            scores[name] = saliency if bool(saliency.any()) else self.relaxed.mean_squares(unit).detach()
            scores[name] = scores[name] * self.buffers[f"{name}:{NONZERO}"]
        ranking = Ranking(self.units, scores)
        counts = ranking.counts(ranking.threshold(step.target, step.target.shares_at(1.0)))
        for name, mask in ranking.masks(counts).items():
            self.buffers[f"{name}:{KEPT}"] = mask
        self.buffers["chosen"] = torch.ones(())

    def _shrink(self, step: StepState, before: Mapping[str, torch.Tensor]) -> None:
        # Equal steps to zero: the factor is the rest of the way after this step over the rest before it.
        rest = 1.0 - step.ramp - step.ramp_step / 2
        shrink = rest / (rest + step.ramp_step) if rest > 1e-9 else 0.0
        weights = self.relaxed.weights.model_parameters
        for name, unit in self.units.items():
            kept, nonzero = self.buffers[f"{name}:{KEPT}"], self.buffers[f"{name}:{NONZERO}"]
            product, square = torch.zeros_like(kept), torch.zeros_like(kept)
            cut = self.relaxed.network.cuts[name]
            for tensor, slot in self.relaxed.writers(unit):
                product += element_sums(weights[tensor].detach() * before[tensor], slot, cut)[0]
                square += element_sums(before[tensor].square(), slot, cut)[0]
            left_half_space = product < self.options.half_space * square
            nonzero[(kept == 0) & (left_half_space | (shrink == 0))] = 0.0
            factor = torch.where(kept == 0, torch.full_like(kept, shrink), torch.ones_like(kept))
            self._multiply(name, factor)

    def _zero_removed(self) -> None:
        for name in self.units:
            self._multiply(name, self.buffers[f"{name}:{NONZERO}"])

    def _multiply(self, name: str, factor: torch.Tensor) -> None:
        with torch.no_grad():
            for tensor, slot in self.relaxed.writers(self.units[name]):
                parameter = self.relaxed.weights.model_parameters[tensor]
                parameter.copy_(apply_factor(parameter, slot, factor))

    def decide(self, step: StepState) -> Decision:
        masks: State = {name: self.buffers[f"{name}:{KEPT}"] for name in self.units}
        kept = {name: float(self.element_count(name, mask)) for name, mask in masks.items()}
        # Kept groups first, then by saliency, so that a repair of the size removes the least salient ones.
        saliencies = {n: self.buffers[f"{n}:{SALIENCY}"] for n in masks}
        scores = {n: mask * 2 + saliencies[n] / saliencies[n].max().clamp_min(1e-30) for n, mask in masks.items()}
        return Decision(kept, scores)
