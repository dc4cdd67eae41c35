"""Distributions over the patterns of N:M groups (MaskLLM, Fang et al., NeurIPS 2024)."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch

from sparsesearch.bilevel.base import FLOAT_BYTES, Decision, Footprint, Learner, Moment, learned, learner
from sparsesearch.bilevel.levels import prunable_weights
from sparsesearch.bilevel.relaxed import Openings, Relaxed
from sparsesearch.models.network import Network
from sparsesearch.space import Space
from sparsesearch.supernet.store import UnitFiles

# Of the first logits; the prior is counted in these.
SPREAD = 0.01


def patterns_of(n: int, m: int) -> torch.Tensor:
    """All ways to keep N of M, (patterns, M), as 0 and 1."""
    chosen = [[float(i in kept) for i in range(m)] for kept in itertools.combinations(range(m), n)]
    return torch.tensor(chosen)


@learner("maskllm")
class Patterns(Learner):
    """Logits over the patterns of every group of M adjacent inputs; weights are what the method is given.

    A step draws a soft pattern softmax((κ logits + Gumbel) / τ) of each; every mixture keeps N in sum. At first the
    masks of the level store are preferred. The loss is lowered by what the masks keep of the squared weights, less
    and less.
    """

    takes_pattern = True

    def __init__(self, relaxed: Relaxed, files: UnitFiles, options: object, seed: int, pattern: str = "2:4") -> None:
        super().__init__(relaxed, files, options, seed)
        n, m = map(int, pattern.split(":"))
        self._patterns = patterns_of(n, m).to(self.device)
        generator = torch.Generator().manual_seed(seed)
        for name, unit in self.units.items():
            matrix = relaxed.matrices[name]
            mask = (files.sparse(unit, 1, matrix.shape) != 0).float().to(self.device)
            groups = matrix.view(mask).reshape(-1, m)
            start = SPREAD * torch.randn(len(groups), len(self._patterns), generator=generator).to(self.device)
            alike = groups @ self._patterns.T
            # An overlap that a random pattern has on average changes nothing.
            start += (alike - n * n / m) * SPREAD * self.options.prior
            self.parameters[name] = learned(start)

    @classmethod
    def footprint(cls, space: Space, network: Network, options: Any, pattern: str | None) -> Footprint:
        numbers = pattern_count(pattern or "2:4") * sum(prunable_weights(space, network).values())
        # Logits, their mixture and what it is made of.
        return Footprint(numbers, 3 * FLOAT_BYTES * numbers)

    def openings(self, moment: Moment) -> Openings:
        temperature = moment.between(self.options.temperature, self.options.last_temperature)
        scale = moment.between(self.options.scale, self.options.last_scale)
        found = {}
        for name, logits in self.parameters.items():
            uniform = torch.rand(logits.shape, generator=moment.generator).clamp(1e-9, 1 - 1e-9).to(logits)
            mixture = torch.softmax((scale * logits - (-uniform.log()).log()) / temperature, dim=1)
            found[name] = self._mask(name, mixture)
        self._open = found
        return found

    def _mask(self, name: str, mixture: torch.Tensor) -> torch.Tensor:
        """The mask of mixtures (groups, patterns), in the shape of the weight."""
        matrix = self.relaxed.matrices[name]
        mask = (mixture @ self._patterns).reshape(matrix.groups, matrix.rows, -1)
        return matrix.unview(mask).reshape(matrix.shape)

    def penalty(self, moment: Moment) -> torch.Tensor:
        own = self.relaxed.weights.own
        kept = [(own[self.relaxed.matrices[n].name].detach() * mask).square().sum() for n, mask in self._open.items()]
        return -float(self.options.large_weights) * (1 - moment.done) * torch.stack(kept).sum()

    def decide(self, moment: Moment) -> Decision:
        """The most likely pattern of every group."""
        scores = {}
        for name, logits in self.parameters.items():
            chosen = torch.nn.functional.one_hot(logits.detach().argmax(dim=1), logits.shape[1])
            scores[name] = self._mask(name, chosen.to(logits))
        return Decision({name: float(score.sum()) for name, score in scores.items()}, scores)


def pattern_count(pattern: str) -> float:
    """Logits for each weight that a pattern takes."""
    n, m = map(int, pattern.split(":"))
    return math.comb(m, n) / m
