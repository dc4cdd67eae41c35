"""Hard-concrete gates with a Lagrangian (Louizos et al., 2018; CoFi, Sheared-LLaMA, Compresso)."""

from __future__ import annotations

import math

import torch

from sparsesearch.bilevel.base import CostTarget, Decision, Learner, StepState, learner, new_parameter
from sparsesearch.bilevel.expected import LevelProbabilities
from sparsesearch.bilevel.levels import element_ranks
from sparsesearch.bilevel.relaxed import Factors, RelaxedNetwork
from sparsesearch.supernet.store import UnitFiles

BETA, GAMMA, ZETA, EPSILON = 2 / 3, -0.1, 1.1, 1e-6
# Range of log α in which gates can still change.
LOWEST, HIGHEST = math.log(0.01), math.log(100)
# Largest multiplier; beyond it the loss would no longer matter.
MAX_MULTIPLIER = 1e3


def open_probability(log_alpha: torch.Tensor) -> torch.Tensor:
    """Return P(gate != 0) = sigmoid(log α - β ln(-γ / ζ)), in the shape of log α, any."""
    return torch.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))


def sample_gates(log_alpha: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw gates in [0, 1] from the hard-concrete distribution, in the shape of log α and differentiable in it."""
    uniform = torch.rand(log_alpha.shape, generator=generator).clamp(EPSILON, 1 - EPSILON).to(log_alpha)
    stretched = torch.sigmoid((uniform.logit() + log_alpha) / BETA) * (ZETA - GAMMA) + GAMMA
    return stretched.clamp(0, 1)


def final_gates(log_alpha: torch.Tensor) -> torch.Tensor:
    """Return the final values of kept gates, in the shape of log α: sigmoid(0.8 log α / β), as CoFi evaluates."""
    return torch.sigmoid(0.8 * log_alpha / BETA)


@learner("gates")
class GatesLearner(Learner):
    """Learns a gate on every element and sublayer; multipliers push the expected cost to its target from both sides.

    Gates of elements that the level store removes first start further closed (`prior`), so that gates of a unit do not
    all close alike.

    Minimises loss + λ₁ (ŝ - t) + λ₂ (ŝ - t)² with ŝ the expected and t the target share of the dense cost; λ by ascent.
    """

    def __init__(self, relaxed: RelaxedNetwork, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        self._costs: list[str] = []
        for name, unit in self.units.items():
            start = torch.full(relaxed.shape(unit), float(self.options.start), device=self.device)
            if unit.is_cut and self.options.prior:
                ranks = element_ranks(files, unit, relaxed.shape(unit), self.device) / max(start.shape[1] - 1, 1)
                start += self.options.prior * (1 - 2 * ranks)
            self.parameters[name] = new_parameter(start.clamp(LOWEST, HIGHEST))

    def begin(self, target: CostTarget) -> None:
        if self._costs != target.costs:
            self._costs = target.costs
            self.multipliers = {name: new_parameter(torch.zeros(len(target.end))) for name in ("linear", "square")}
        self.buffers["ran_away"] = torch.zeros(())

    def factors(self, step: StepState) -> Factors:
        return {name: sample_gates(log_alpha, step.generator) for name, log_alpha in self.parameters.items()}

    def probabilities(self) -> LevelProbabilities:
        kept = {name: self.element_count(name, open_probability(a)) for name, a in self.parameters.items()}
        return self.probabilities_around(kept)

    def penalty(self, step: StepState) -> torch.Tensor:
        """Return λ₁ (ŝ - t) + λ₂ (ŝ - t)², summed over the bounds, a scalar."""
        excess = step.target.expected_shares(self.probabilities()) - step.target_shares
        linear, square = self.multipliers["linear"].double(), self.multipliers["square"].double()
        return (linear * excess + square * excess.square()).sum()

    def project(self, step: StepState) -> None:
        with torch.no_grad():
            for log_alpha in self.parameters.values():
                log_alpha.clamp_(LOWEST, HIGHEST)
            for multiplier in self.multipliers.values():
                if bool((multiplier.abs() > MAX_MULTIPLIER).any()):
                    self.buffers["ran_away"].fill_(1)
                multiplier.clamp_(-MAX_MULTIPLIER, MAX_MULTIPLIER)

    def note(self) -> str:
        if not self.buffers["ran_away"]:
            return ""
        return f"a multiplier reached {MAX_MULTIPLIER:g}: gates could not follow the size, the repair did the rest"

    def decide(self, step: StepState) -> Decision:
        """Keep the expected counts, and multiply weights by their final gates."""
        gates = {name: log_alpha.detach() for name, log_alpha in self.parameters.items()}
        kept = {name: float(self.element_count(name, open_probability(gate))) for name, gate in gates.items()}
        tensors = self.relaxed.tensors({name: final_gates(gate) for name, gate in gates.items()})
        return Decision(kept, gates, {name: tensor.detach() for name, tensor in tensors.items()})
