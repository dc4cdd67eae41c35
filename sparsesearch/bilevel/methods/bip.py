"""BiP: masks by the hypergradient of a bilevel problem (Zhang et al., NeurIPS 2022)."""

from __future__ import annotations

from typing import Any

import torch

from sparsesearch.bilevel.base import Decision, Learner, State, StepState, learner, new_parameter
from sparsesearch.bilevel.relaxed import Factors, RelaxedNetwork, apply_factor
from sparsesearch.bilevel.selection import Ranking
from sparsesearch.supernet.store import UnitFiles


class ScoreDescent(torch.optim.SGD):
    """SGD on scores, with gradients divided by their root mean square over all scores.

    Gradients of a mask are as small as the loss is flat; only their ratios between elements matter.
    """

    def step(self, closure: Any = None) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        count = sum(g.numel() for g in gradients)
        typical = (torch.stack([g.square().sum() for g in gradients]).sum() / count).sqrt().clamp_min(1e-30)
        for gradient in gradients:
            gradient /= typical
        return super().step(closure)


@learner("bip")
class BiPLearner(Learner):
    """Learns real scores m̃ >= 0 that start with root mean square 1; the mask m is their global top-k, straight through.

    Minimises l(m∘θ(m)) over m with θ(m) = argmin l(m∘θ) + γ/2 |θ|²: the hypergradient of m is (θ - m∘g/γ)∘g, where g
    is the gradient of the loss at z = m∘θ; second derivatives of l are left out (eq. 7). One backward pass gives both
    terms. The hypergradient of an element is the sum over its weights. 1/γ = 0 is HYDRA.
    """

    mask_numbers_per_weight = 2
    learns_each_weight = True

    def __init__(self, relaxed: RelaxedNetwork, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        sizes = {name: relaxed.mean_squares(unit).detach().sqrt() for name, unit in self.units.items()}
        weights = [sizes[name].flatten() for name, unit in self.units.items() if unit.kind == "sparsity"]
        typical = torch.cat(weights).square().mean().sqrt() if weights else torch.ones(())
        for name, unit in self.units.items():
            size = sizes[name]
            # One scale for all weights, but one per unit for groups, so that the gradient ranks units.
            scale = typical if unit.kind == "sparsity" else size.square().mean().sqrt()
            self.parameters[name] = new_parameter(size / scale.clamp_min(1e-30))
            self.buffers[name] = torch.ones_like(self.parameters[name])
        self._masks: State = {}

    def optimizer(self, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
        return ScoreDescent(parameters, lr=self.options.learning_rate, momentum=0.9)

    def factors(self, step: StepState) -> Factors:
        self._masks = {name: mask.detach().requires_grad_(True) for name, mask in self.buffers.items()}
        return self._masks

    def gradients(self, loss: torch.Tensor, tensors: State) -> State:
        """Return (θ - m∘g/γ)∘g, summed over the weights of each element."""
        differentiable = [name for name, tensor in tensors.items() if tensor.requires_grad]
        masks = list(self._masks.values())
        results = torch.autograd.grad(loss, [*masks, *(tensors[n] for n in differentiable)], allow_unused=True)
        direct = dict(zip(self._masks, results, strict=False))
        if not self.options.gamma_inverse:
            return {n: torch.zeros_like(self._masks[n]) if g is None else g for n, g in direct.items()}
        gradients = dict(zip(differentiable, results[len(masks) :], strict=True))
        implicit = self._implicit({n: g for n, g in gradients.items() if g is not None})
        return {n: (0.0 if g is None else g) - self.options.gamma_inverse * implicit[n] for n, g in direct.items()}

    def _implicit(self, gradients: State) -> State:
        """Return Σ m∘g² over the weights of each element; the m of a weight is the product of its units' masks."""
        masks = {name: mask.detach().requires_grad_(True) for name, mask in self._masks.items()}
        total = torch.zeros((), device=self.device)
        for name, pairs in self.relaxed.units_by_tensor.items():
            if name in gradients:
                value = gradients[name].square()
                for unit, slot in pairs:
                    value = apply_factor(value, slot, masks[unit.name].square())
                total = total + value.sum() / 2
        sums = torch.autograd.grad(total, list(masks.values()), allow_unused=True)
        return {n: torch.zeros_like(m) if s is None else s for (n, m), s in zip(masks.items(), sums, strict=True)}

    def project(self, step: StepState) -> None:
        """Set the masks to the scores above one threshold, as many as the target allows by this step.

        Scores are clamped at zero.
        """
        with torch.no_grad():
            for score in self.parameters.values():
                score.clamp_(min=0)
        ranking = Ranking(self.units, self.parameters)
        counts = ranking.counts(ranking.threshold(step.target, step.target_shares))
        self.buffers.update(ranking.masks(counts))

    def decide(self, step: StepState) -> Decision:
        self.project(step)
        kept = {name: float(self.element_count(name, mask)) for name, mask in self.buffers.items()}
        return Decision(kept, {name: score.detach() for name, score in self.parameters.items()})
