"""Learnable sparsity rates over the levels of any pruner (BESA, Xu et al., ICLR 2024)."""

from __future__ import annotations

from typing import Any

import torch

from sparsesearch.bilevel.base import FLOAT_BYTES, Decision, Footprint, Learner, Moment, learned, learner
from sparsesearch.bilevel.expected import Chances
from sparsesearch.bilevel.levels import level_masks, mask_count, nearest_level
from sparsesearch.bilevel.relaxed import Openings, Relaxed
from sparsesearch.models.network import Network
from sparsesearch.space import Space
from sparsesearch.supernet.store import UnitFiles


@learner("besa")
class Rates(Learner):
    """Chances of the levels of each matrix; a weight is kept with the chance that a level keeps it.

    Forward the mask of the level nearest to the mean, backward the soft one (straight through). The candidates are
    the store's levels, so the score is that of the pruner which built them. The published softmax of a sigmoid of the
    logits keeps all chances within a factor e of each other, so that rates could not leave the middle: a plain softmax
    is used. The published budget is of each block; here it is one of the whole network.
    """

    soft_numbers = 2
    carries = False

    def __init__(self, relaxed: Relaxed, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        self.local = self.options.loss == "blocks"
        self._masks = {}
        for name, unit in self.units.items():
            self.parameters[name] = learned(torch.zeros(len(unit.levels), device=self.device))
            self._masks[name] = level_masks(files, unit, relaxed.shape(unit), self.device)

    @classmethod
    def footprint(cls, space: Space, network: Network, options: Any, pattern: str | None) -> Footprint:
        numbers, masks = super().footprint(space, network, options, pattern)
        # A byte each and, for the mean of all levels, as numbers.
        return Footprint(numbers, masks + mask_count(space, network) * (1 + FLOAT_BYTES))

    def openings(self, moment: Moment) -> Openings:
        found = {}
        for name, chance in self.chances().items():
            soft = soft_mask(self._masks[name], chance)
            hard = self._masks[name][self._nearest(name, chance)]
            found[name] = hard + soft - soft.detach()
        return found

    def chances(self) -> Chances:
        return {name: torch.softmax(logits, 0) for name, logits in self.parameters.items()}

    def _mean(self, name: str, chance: torch.Tensor) -> float:
        levels = torch.tensor(self.units[name].levels, dtype=torch.float64, device=chance.device)
        return float((chance.detach().double() * levels).sum())

    def _nearest(self, name: str, chance: torch.Tensor) -> int:
        mean, levels = self._mean(name, chance), self.units[name].levels
        return nearest_level(levels, mean)

    def penalty(self, moment: Moment) -> torch.Tensor:
        """β ((s - S) / S)² of the share s that is expected and S that is wanted."""
        shares, wanted = moment.size.shares(self.chances()), moment.wanted
        return float(self.options.cost_weight) * ((shares - wanted) / wanted.clamp_min(1e-12)).square().sum()

    def decide(self, moment: Moment) -> Decision:
        return Decision({name: self._mean(name, chance) for name, chance in self.chances().items()})


def soft_mask(masks: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """The chance that each weight is kept: the sum of the chances of the levels that keep it."""
    soft: torch.Tensor = torch.tensordot(chance, masks.to(chance), dims=1)
    return soft
