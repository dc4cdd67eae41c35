"""Distributions over the patterns of N:M groups (MaskLLM, Fang et al., NeurIPS 2024)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch

from sparsesearch.bilevel.base import FLOAT_BYTES, Decision, Footprint, Learner, StepState, learner, new_parameter
from sparsesearch.bilevel.levels import prunable_weights
from sparsesearch.bilevel.relaxed import Factors, RelaxedNetwork
from sparsesearch.models.network import Network
from sparsesearch.space import Space
from sparsesearch.supernet.store import UnitFiles

# Standard deviation of the first logits; the prior is a multiple of it.
INITIAL_STD = 0.01


def patterns_of(n: int, m: int) -> torch.Tensor:
    """Return all patterns that keep N of M, (patterns, M), 0 and 1."""
    patterns = [[float(i in kept) for i in range(m)] for kept in itertools.combinations(range(m), n)]
    return torch.tensor(patterns)


@learner("maskllm")
class MaskLLMLearner(Learner):
    """Learns logits over the patterns of every group of M adjacent inputs.

    A step draws a mixture of patterns softmax((κ logits + Gumbel) / τ) for each group; every mixture keeps N in sum.
    The first logits prefer the masks of the level store. A reward for the squared weights that the masks keep is
    subtracted from the loss and falls to zero over the steps.
    """

    takes_pattern = True

    def __init__(
        self, relaxed: RelaxedNetwork, files: UnitFiles, options: object, seed: int, pattern: str = "2:4"
    ) -> None:
        super().__init__(relaxed, files, options, seed)
        n, m = map(int, pattern.split(":"))
        self._patterns = patterns_of(n, m).to(self.device)
        generator = torch.Generator().manual_seed(seed)
        for name, unit in self.units.items():
            matrix = relaxed.matrices[name]
            mask = (files.sparse(unit, 1, matrix.shape) != 0).float().to(self.device)
            groups = matrix.view(mask).reshape(-1, m)
            start = INITIAL_STD * torch.randn(len(groups), len(self._patterns), generator=generator).to(self.device)
            overlap = groups @ self._patterns.T
            # Relative to n²/m, the mean overlap of two random patterns.
            start += (overlap - n * n / m) * INITIAL_STD * self.options.prior
            self.parameters[name] = new_parameter(start)

    @classmethod
    def footprint(cls, space: Space, network: Network, options: Any, pattern: str | None) -> Footprint:
        numbers = pattern_count(pattern or "2:4") * sum(prunable_weights(space, network).values())
        # Logits, their mixture, and the numbers that it is computed from.
        return Footprint(numbers, 3 * FLOAT_BYTES * numbers)

    def factors(self, step: StepState) -> Factors:
        temperature = step.interpolate(self.options.temperature, self.options.last_temperature)
        scale = step.interpolate(self.options.scale, self.options.last_scale)
        masks = {}
        for name, logits in self.parameters.items():
            uniform = torch.rand(logits.shape, generator=step.generator).clamp(1e-9, 1 - 1e-9).to(logits)
            mixture = torch.softmax((scale * logits - (-uniform.log()).log()) / temperature, dim=1)
            masks[name] = self._mask(name, mixture)
        self._last_masks = masks
        return masks

    def _mask(self, name: str, mixture: torch.Tensor) -> torch.Tensor:
        """Return the mask of mixtures (groups, patterns), in the shape of the weight."""
        matrix = self.relaxed.matrices[name]
        mask = (mixture @ self._patterns).reshape(matrix.groups, matrix.rows, -1)
        return matrix.unview(mask).reshape(matrix.shape)

    def penalty(self, step: StepState) -> torch.Tensor:
        """Return the negative of the reward for the squared weights that the last masks keep, a scalar."""
        weights, matrices = self.relaxed.weights.model_parameters, self.relaxed.matrices
        kept = [(weights[matrices[n].name].detach() * mask).square().sum() for n, mask in self._last_masks.items()]
        return -float(self.options.large_weights) * (1 - step.progress) * torch.stack(kept).sum()

    def decide(self, step: StepState) -> Decision:
        """Keep the most likely pattern of every group."""
        scores = {}
        for name, logits in self.parameters.items():
            most_likely = torch.nn.functional.one_hot(logits.detach().argmax(dim=1), logits.shape[1])
            scores[name] = self._mask(name, most_likely.to(logits))
        return Decision({name: float(score.sum()) for name, score in scores.items()}, scores)


def pattern_count(pattern: str) -> float:
    """Return the number of logits per weight of an N:M pattern."""
    n, m = map(int, pattern.split(":"))
    return math.comb(m, n) / m
