"""Distributions over levels (TAS, Dong & Yang, NeurIPS 2019): widths, depths, and the sparsity levels of the store."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from sparsesearch.bilevel.base import FLOAT_BYTES, Decision, Footprint, Learner, StepState, learner, new_parameter
from sparsesearch.bilevel.expected import LevelProbabilities
from sparsesearch.bilevel.levels import element_ranks, level_masks, mask_count
from sparsesearch.bilevel.relaxed import Factors, RelaxedNetwork
from sparsesearch.models.network import Network
from sparsesearch.space import Space, Unit
from sparsesearch.supernet.store import UnitFiles


@learner("tas")
class TASLearner(Learner):
    """Learns logits over the levels of every unit; a step uses the weighted mean of two levels.

    The two are drawn without replacement from Gumbel-perturbed logits and weighted by the softmax over the two (eqs. 3
    and 4). A level keeps the elements that the store keeps at it, so the argmax is a genome with the store's elements.
    Sparsity levels are masks in the same relaxation, like the sparse operations of DASS.
    """

    mask_numbers_per_weight = 10

    def __init__(self, relaxed: RelaxedNetwork, files: UnitFiles, options: object, seed: int) -> None:
        super().__init__(relaxed, files, options, seed)
        self._ranks, self._masks = {}, {}
        for name, unit in self.units.items():
            self.parameters[name] = new_parameter(torch.zeros(len(unit.levels), device=self.device))
            if unit.is_cut:
                self._ranks[name] = element_ranks(files, unit, relaxed.shape(unit), self.device)
            elif not unit.is_drop:
                self._masks[name] = level_masks(files, unit, relaxed.shape(unit), self.device)

    @classmethod
    def footprint(cls, space: Space, network: Network, options: Any, pattern: str | None) -> Footprint:
        numbers, masks = super().footprint(space, network, options, pattern)
        masks += mask_count(space, network)  # a byte per weight
        if options.mix == "interpolate":
            cuts = [network.cuts[unit.name] for unit in space.units if unit.is_cut]
            masks += 4 * FLOAT_BYTES * sum(cut.orders * cut.elements**2 for cut in cuts)
        return Footprint(numbers, masks)

    def factors(self, step: StepState) -> Factors:
        temperature = step.interpolate(self.options.temperature, self.options.last_temperature)
        return {
            name: self._factor(self.units[name], *draw_two(logits, temperature, step.generator))
            for name, logits in self.parameters.items()
        }

    def _factor(self, unit: Unit, levels: list[int], shares: torch.Tensor) -> torch.Tensor:
        """Return the factors of a unit at a mean of levels with weights `shares` (levels,)."""
        if unit.is_drop:
            factors = torch.tensor([1.0 - level for level in levels], device=self.device)
            return (shares * factors).sum()
        if not unit.is_cut:
            masks = self._masks[unit.name]
            return torch.stack([s * masks[level] for s, level in zip(shares, levels, strict=True)]).sum(0)
        rank, kept = self._ranks[unit.name], [unit.levels[level] for level in levels]
        if self.options.mix == "interpolate":
            width = max(kept)
            matrices = [
                share * pooling_matrix(unit.total, count, width, self.device)
                for share, count in zip(shares, kept, strict=True)
            ]
            return _by_rank(torch.stack(matrices).sum(0), rank)
        return torch.stack([s * (rank < count) for s, count in zip(shares, kept, strict=True)]).sum(0)

    def probabilities(self) -> LevelProbabilities:
        return {name: torch.softmax(logits, 0) for name, logits in self.parameters.items()}

    def _most_likely(self) -> LevelProbabilities:
        return {
            n: functional.one_hot(logits.detach().argmax(), len(logits)).double()
            for n, logits in self.parameters.items()
        }

    def penalty(self, step: StepState) -> torch.Tensor:
        """Return w log E if the argmax exceeds the target, -w log E if it is below the tolerance, else 0 (eq. 7)."""
        expected_shares = step.target.expected_shares(self.probabilities())
        likely_shares = step.target.expected_shares(self._most_likely())
        minimum = step.target_shares - self.options.tolerance
        sign: torch.Tensor = (likely_shares > step.target_shares).double() - (likely_shares < minimum).double()
        return float(self.options.cost_weight) * (sign * expected_shares.clamp_min(1e-12).log()).sum()

    def decide(self, step: StepState) -> Decision:
        """Keep the mean number of elements of each distribution; the repair then meets the limits."""
        kept = {}
        for name, probabilities in self.probabilities().items():
            levels = torch.tensor(self.units[name].levels, dtype=probabilities.dtype, device=probabilities.device)
            kept[name] = float((probabilities.detach() * levels).sum())
        return Decision(kept)


def draw_two(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> tuple[list[int], torch.Tensor]:
    """Draw two levels without replacement, or one if all probability is on it.

    Args:
        logits: (levels,).

    Returns:
        The levels, and their shares, (drawn,), which sum to 1 and are differentiable in the logits.
    """
    uniform = torch.rand(logits.shape, generator=generator).clamp(1e-9, 1 - 1e-9).to(logits)
    perturbed = (functional.log_softmax(logits, 0) - (-uniform.log()).log()) / temperature
    probabilities = torch.softmax(perturbed.detach(), 0).cpu()
    count = min(2, int((probabilities > 0).sum()))
    drawn = torch.multinomial(probabilities, count, generator=generator)
    return drawn.tolist(), torch.softmax(perturbed[drawn.to(logits.device)], 0)


def pooling_matrix(total: int, kept: int, width: int, device: torch.device) -> torch.Tensor:
    """Return the matrix that pools the first `kept` of `total` channels to `width`, (total, total).

    It is adaptive average pooling; rows from `width` on are zero.
    """
    identity = torch.eye(kept, device=device)
    matrix = torch.zeros(total, total, device=device)
    matrix[:width, :kept] = functional.adaptive_avg_pool1d(identity[None], width)[0].T
    return matrix


def _by_rank(matrix: torch.Tensor, rank: torch.Tensor) -> torch.Tensor:
    """Return a matrix over ranks, (total, total), as one over elements of each order, (orders, elements, elements)."""
    return matrix[rank[:, :, None], rank[:, None, :]]
