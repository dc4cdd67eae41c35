"""Distributions over levels (TAS, Dong & Yang, NeurIPS 2019): widths, depths, and the sparsity levels of the store."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from sparsesearch.bilevel.base import FLOAT_BYTES, Decision, Footprint, Learner, Moment, learned, learner
from sparsesearch.bilevel.expected import Chances
from sparsesearch.bilevel.levels import level_masks, mask_count, ranks
from sparsesearch.bilevel.relaxed import Openings, Relaxed
from sparsesearch.models.network import Network
from sparsesearch.space import Space, Unit
from sparsesearch.supernet.store import UnitFiles


@learner("tas")
class Widths(Learner):
    """Logits over the levels of every unit; a step sees the mean of two of them.

    The two are drawn without replacement by Gumbel-perturbed logits and weighted by their softmax over the two (eqs. 3
    and 4). A level opens the elements that the store keeps at it, so the argmax is a genome with the store's elements.
    Sparsity levels are masks in the same relaxation, as the sparse operations of DASS.
    """

    soft_numbers = 10

    def __init__(self, relaxed: Relaxed, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        self._ranks, self._masks = {}, {}
        for name, unit in self.units.items():
            self.parameters[name] = learned(torch.zeros(len(unit.levels), device=self.device))
            if unit.is_cut:
                self._ranks[name] = ranks(files, unit, relaxed.shape(unit), self.device)
            elif not unit.is_drop:
                self._masks[name] = level_masks(files, unit, relaxed.shape(unit), self.device)

    @classmethod
    def footprint(cls, space: Space, network: Network, options: Any, pattern: str | None) -> Footprint:
        numbers, masks = super().footprint(space, network, options, pattern)
        masks += mask_count(space, network)  # a byte each
        if options.mix == "interpolate":
            cuts = [network.cuts[unit.name] for unit in space.units if unit.is_cut]
            masks += 4 * FLOAT_BYTES * sum(cut.orders * cut.elements**2 for cut in cuts)
        return Footprint(numbers, masks)

    def openings(self, moment: Moment) -> Openings:
        temperature = moment.between(self.options.temperature, self.options.last_temperature)
        return {
            name: self._opening(self.units[name], *two_of(logits, temperature, moment.generator))
            for name, logits in self.parameters.items()
        }

    def _opening(self, unit: Unit, levels: list[int], shares: torch.Tensor) -> torch.Tensor:
        if unit.is_drop:
            open_at = torch.tensor([1.0 - level for level in levels], device=self.device)
            return (shares * open_at).sum()
        if not unit.is_cut:
            masks = self._masks[unit.name]
            return torch.stack([s * masks[level] for s, level in zip(shares, levels, strict=True)]).sum(0)
        rank, kept = self._ranks[unit.name], [unit.levels[level] for level in levels]
        if self.options.mix == "interpolate":
            mixed = [
                s * pooling(unit.total, count, max(kept), self.device) for s, count in zip(shares, kept, strict=True)
            ]
            return _by_rank(torch.stack(mixed).sum(0), rank)
        return torch.stack([s * (rank < count) for s, count in zip(shares, kept, strict=True)]).sum(0)

    def chances(self) -> Chances:
        return {name: torch.softmax(logits, 0) for name, logits in self.parameters.items()}

    def _argmax(self) -> Chances:
        return {
            n: functional.one_hot(logits.detach().argmax(), len(logits)).double()
            for n, logits in self.parameters.items()
        }

    def penalty(self, moment: Moment) -> torch.Tensor:
        """w log E where the argmax costs too much, -w log E where it leaves more than the tolerance, else 0 (eq. 7)."""
        expected, counted = moment.size.shares(self.chances()), moment.size.shares(self._argmax())
        least = moment.wanted - self.options.tolerance
        over: torch.Tensor = (counted > moment.wanted).double() - (counted < least).double()
        return float(self.options.cost_weight) * (over * expected.clamp_min(1e-12).log()).sum()

    def decide(self, moment: Moment) -> Decision:
        """The mean of each distribution, which the repair brings to the limits."""
        kept = {}
        for name, chance in self.chances().items():
            levels = torch.tensor(self.units[name].levels, dtype=chance.dtype, device=chance.device)
            kept[name] = float((chance.detach() * levels).sum())
        return Decision(kept)


def two_of(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> tuple[list[int], torch.Tensor]:
    """Two levels drawn without replacement, or all where there are fewer, and the shares of each, which sum to 1."""
    uniform = torch.rand(logits.shape, generator=generator).clamp(1e-9, 1 - 1e-9).to(logits)
    perturbed = (functional.log_softmax(logits, 0) - (-uniform.log()).log()) / temperature
    chances = torch.softmax(perturbed.detach(), 0).cpu()
    count = min(2, int((chances > 0).sum()))
    drawn = torch.multinomial(chances, count, generator=generator)
    return drawn.tolist(), torch.softmax(perturbed[drawn.to(logits.device)], 0)


def pooling(total: int, kept: int, wide: int, device: torch.device) -> torch.Tensor:
    """What turns the first `kept` of `total` channels into `wide` by adaptive average pooling, (total, total)."""
    unit = torch.eye(kept, device=device)
    mixed = torch.zeros(total, total, device=device)
    mixed[:wide, :kept] = functional.adaptive_avg_pool1d(unit[None], wide)[0].T
    return mixed


def _by_rank(mixed: torch.Tensor, rank: torch.Tensor) -> torch.Tensor:
    """A matrix over ranks as one over the elements of each order, (orders, elements, elements)."""
    return mixed[rank[:, :, None], rank[:, None, :]]
