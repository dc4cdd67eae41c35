"""Hard-concrete gates with a Lagrangian (Louizos et al., 2018; CoFi, Sheared-LLaMA, Compresso)."""

from __future__ import annotations

import math

import torch

from sparsesearch.bilevel.base import Decision, Learner, Moment, Size, learned, learner
from sparsesearch.bilevel.expected import Chances
from sparsesearch.bilevel.levels import ranks
from sparsesearch.bilevel.relaxed import Openings, Relaxed
from sparsesearch.supernet.store import UnitFiles

BETA, GAMMA, ZETA, EPSILON = 2 / 3, -0.1, 1.1, 1e-6
# log α stays where gates can still move.
LOWEST, HIGHEST = math.log(0.01), math.log(100)
# A multiplier beyond this has run away: the loss no longer counts.
RUNAWAY = 1e3


def open_chance(log_alpha: torch.Tensor) -> torch.Tensor:
    """P(gate != 0) = sigmoid(log α - β ln(-γ / ζ))."""
    return torch.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))


def sampled(log_alpha: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A gate drawn from the hard-concrete distribution, in [0, 1], differentiable in log α."""
    uniform = torch.rand(log_alpha.shape, generator=generator).clamp(EPSILON, 1 - EPSILON).to(log_alpha)
    stretched = torch.sigmoid((uniform.logit() + log_alpha) / BETA) * (ZETA - GAMMA) + GAMMA
    return stretched.clamp(0, 1)


def settled(log_alpha: torch.Tensor) -> torch.Tensor:
    """What a gate that stays is worth in the end: sigmoid(0.8 log α / β), CoFi's evaluation."""
    return torch.sigmoid(0.8 * log_alpha / BETA)


@learner("gates")
class Gates(Learner):
    """A gate on every element and sublayer; multipliers push the expected cost to its target from both sides.

    Gates of what the level store takes away first start further closed (`prior`), so that not all close alike and the
    loss has to tell units apart before elements.

    loss + λ₁ (ŝ - t) + λ₂ (ŝ - t)², with ŝ the expected and t the wanted share of the dense cost; λ by ascent.
    """

    def __init__(self, relaxed: Relaxed, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        self._costs: list[str] = []
        for name, unit in self.units.items():
            start = torch.full(relaxed.shape(unit), float(self.options.start), device=self.device)
            if unit.is_cut and self.options.prior:
                places = ranks(files, unit, relaxed.shape(unit), self.device) / max(start.shape[1] - 1, 1)
                start += self.options.prior * (1 - 2 * places)
            self.parameters[name] = learned(start.clamp(LOWEST, HIGHEST))

    def begin(self, size: Size) -> None:
        if self._costs != size.names:
            self._costs = size.names
            self.multipliers = {name: learned(torch.zeros(len(size.end))) for name in ("linear", "square")}
        self.kept_beside["ran_away"] = torch.zeros(())

    def openings(self, moment: Moment) -> Openings:
        return {name: sampled(log_alpha, moment.generator) for name, log_alpha in self.parameters.items()}

    def chances(self) -> Chances:
        return self.chances_of({name: self.counted(name, open_chance(a)) for name, a in self.parameters.items()})

    def penalty(self, moment: Moment) -> torch.Tensor:
        off = moment.size.shares(self.chances()) - moment.wanted
        linear, square = self.multipliers["linear"].double(), self.multipliers["square"].double()
        return (linear * off + square * off.square()).sum()

    def project(self, moment: Moment) -> None:
        with torch.no_grad():
            for log_alpha in self.parameters.values():
                log_alpha.clamp_(LOWEST, HIGHEST)
            for multiplier in self.multipliers.values():
                if bool((multiplier.abs() > RUNAWAY).any()):
                    self.kept_beside["ran_away"].fill_(1)
                multiplier.clamp_(-RUNAWAY, RUNAWAY)

    def note(self) -> str:
        if not self.kept_beside["ran_away"]:
            return ""
        return f"a multiplier reached {RUNAWAY:g}: gates could not follow the size, the repair did the rest"

    def decide(self, moment: Moment) -> Decision:
        """Counts as expected; what a surviving gate is worth is folded into the weights that it multiplies."""
        gates = {name: log_alpha.detach() for name, log_alpha in self.parameters.items()}
        kept = {name: float(self.counted(name, open_chance(gate))) for name, gate in gates.items()}
        tensors = self.relaxed.tensors({name: settled(gate) for name, gate in gates.items()})
        return Decision(kept, gates, {name: tensor.detach() for name, tensor in tensors.items()})
