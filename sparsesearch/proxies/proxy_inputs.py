"""The arguments of proxies: a genome's costs, one pruned matrix, or the live network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from sparsesearch.calibration import InputStatistics
from sparsesearch.calibration.gradients import mean_gradients
from sparsesearch.data import Samples
from sparsesearch.models.network import Network
from sparsesearch.space import Genome
from sparsesearch.supernet.compose import Composer


@dataclass(frozen=True)
class CostedGenome:
    """A genome and its exact costs.

    Attributes:
        costs: costs by name (`params`, `macs`, `nonzeros`, ...).
    """

    genome: Genome
    costs: dict[str, int]


@dataclass(frozen=True)
class PrunedMatrix:
    """One matrix of a candidate, float32, as (G groups, O outputs, I inputs); pruned weights are zero.

    Attributes:
        name: the parameter's dotted path.
        dense_GOI, pruned_GOI: the weights before and after pruning.
        narrowed_GOI: pruned weights without the cuts of outputs, whose error counts in the matrices that read them.
        inputs: statistics of its inputs in the dense network.
        turn: 1 - mean cosine between the input and the output of its block, in [0, 2].
        gradient_GOI, square_GOI: mean and mean square over samples of the dense network's loss gradient (`gradients`).
        curvature_GOI: Hessian of the loss times the mean gradient (`curvature`).
        expected: statistics of its inputs if all earlier blocks hold their mean over all levels (`expected`).
    """

    name: str
    dense_GOI: torch.Tensor
    pruned_GOI: torch.Tensor
    narrowed_GOI: torch.Tensor
    inputs: InputStatistics
    turn: float
    gradient_GOI: torch.Tensor | None = None
    square_GOI: torch.Tensor | None = None
    curvature_GOI: torch.Tensor | None = None
    expected: InputStatistics | None = None

    @property
    def removed_GOI(self) -> torch.Tensor:
        """Mask of the nonzero weights that pruning removed."""
        return (self.pruned_GOI == 0) & (self.dense_GOI != 0)

    def removes(self, value_GOI: torch.Tensor | None) -> float:
        """Return the sum over removed weights of a value of each dense weight, (G, O, I)."""
        assert value_GOI is not None
        return float(value_GOI.double()[self.removed_GOI].sum())


@dataclass(frozen=True)
class LiveCandidate:
    """The network with a candidate's weights.

    Attributes:
        model: the network; a proxy must leave it unchanged.
        samples: calibration samples, the same for every candidate.
        dense: the result of the proxy's `prepare` for the dense network.
    """

    model: Any
    network: Network
    genome: Genome
    samples: Samples
    composer: Composer
    dense: Any = None

    @cached_property
    def matrices(self) -> dict[str, torch.nn.Parameter]:
        """The candidate's matrices that are not dropped, by name, in the candidate's shapes."""
        parameters = dict(self.model.named_parameters())
        return {name: parameters[name] for name in self.network.matrices if name in parameters}

    def pad_value(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """Return a value of each weight of a matrix in the dense shape, zero for weights removed by cuts."""
        return self.composer.pad_value(name, self.genome, value)

    def gradients(self) -> dict[str, torch.Tensor]:
        """Return gradients of the mean loss over the samples by matrix, float32, in the candidate's shapes.

        Runs one backward pass a sample.
        """
        return mean_gradients(self.model, self.network.task, self.samples, self.matrices)
