"""Trains a supernet: each step runs some of its sub-networks and adds up their gradients of the shared weights.

The sandwich rule trains the largest, the smallest and some random ones (Yu and Huang, 2019, arXiv 1903.05134), whose
teacher may be the largest of the same step (in-place distillation); Once-for-All opens kinds in stages (Cai et al.,
2020, arXiv 1908.09791).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sparsesearch.config import SupernetConfig
from sparsesearch.data.samples import Samples
from sparsesearch.evaluation.batchnorm import batch_norms
from sparsesearch.space import Genome
from sparsesearch.supernet.draws import Draws
from sparsesearch.supernet.elastic import ElasticSupernet
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.objective import Objective
from sparsesearch.training.order import rows_at
from sparsesearch.training.weights import Weights

Rows = npt.NDArray[np.int64]


class SupernetTrainee:
    """The trainee of a supernet: all its weights. Batch normalisation uses each minibatch's own statistics."""

    def __init__(self, weights: Weights) -> None:
        self.model, self._weights = weights.model, weights
        for layer in batch_norms(self.model).values():
            layer.train()
            layer.momentum = 0.0  # running statistics are measured at the end instead

    def parameters(self) -> dict[str, nn.Parameter]:
        return self._weights.parameters

    def enforce_masks(self) -> None:
        """Do nothing: a supernet has no masks."""

    def merge(self) -> Any:
        self._weights.merge()
        return self.model.eval().requires_grad_(False)


class NestedRun(TrainingRun):
    """Trains the sub-networks that `draws` gives for every step, each on the same samples."""

    # Losses may rise: smaller networks join as training goes on.
    max_loss_ratio = float("inf")

    def __init__(
        self,
        weights: Weights,
        elastic: ElasticSupernet,
        draws: Draws,
        objective: Objective,
        samples: Samples,
        options: SupernetConfig,
        compute: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(SupernetTrainee(weights), objective, samples, options.training, draws.steps, compute)
        self.elastic, self.draws, self.supernet_options = elastic, draws, options

    def gradients(self) -> float:
        """Add up the gradients of the next step's sub-networks; return their mean loss."""
        rows = rows_at(self.step, self.options.batch, len(self.samples), self.options.seed)
        genomes = self.draws.at(self.step)
        self._optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for value in self.nested_losses(rows, genomes):
            if value.requires_grad:  # a block whose sublayers are both dropped has no weight to train
                (value / len(genomes)).backward()  # type: ignore[no-untyped-call]
            total += float(value.detach()) / len(genomes)
        return total

    def nested_losses(self, rows: Rows, genomes: list[Genome]) -> Iterator[torch.Tensor]:
        """Yield the loss, a scalar, of each sub-network on the samples of a step.

        With `distill_from: largest` the first sub-network, the largest, is the teacher of the others.

        Args:
            rows: rows of samples, (batch,).
        """
        samples = self.samples.rows(rows)
        with self._cast:
            targets = self.objective.targets(samples)
        for number, genome in enumerate(genomes):
            with self._cast, self.elastic.running(genome) as running:
                outputs, blocks = self.objective.outputs(running, samples)
            yield self.objective.loss((outputs, blocks), targets, samples)
            if number == 0 and self.supernet_options.distill_from == "largest":
                targets = outputs.detach(), [block.detach() for block in blocks]
