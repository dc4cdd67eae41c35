"""What proxies are given."""

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
class Costed:
    """A genome and its exact costs.

    Attributes:
        costs: by name (`params`, `macs`, `nonzeros`, ...).
    """

    genome: Genome
    costs: dict[str, int]


@dataclass(frozen=True)
class PrunedMatrix:
    """One matrix of a candidate, float32, as (G groups, O outputs, I inputs); zeros where it is pruned.

    Attributes:
        dense_GOI, pruned_GOI: before and after.
        narrowed_GOI: after, but with the outputs that cuts remove still there: their loss shows in what reads them.
        inputs: statistics of the dense network's inputs to it.
        turn: 1 - mean cosine between what goes into its block and what comes out, in [0, 2].
        gradient_GOI, square_GOI: mean and mean square over samples of the dense network's loss gradient (`gradients`).
        curvature_GOI: Hessian of the loss times the mean gradient (`curvature`).
        expected: statistics of its inputs where all before it is pruned to the expectation over levels (`expected`).
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
        """Where weights were and are no longer, bool."""
        return (self.pruned_GOI == 0) & (self.dense_GOI != 0)

    def removes(self, value_GOI: torch.Tensor | None) -> float:
        """The sum of a value of each dense weight over those that are removed."""
        assert value_GOI is not None
        return float(value_GOI.double()[self.removed_GOI].sum())


@dataclass(frozen=True)
class Live:
    """The network as a candidate.

    Attributes:
        model: holds the candidate's weights; to be left as it was found.
        samples: calibration samples, the same for every candidate.
        dense: what the proxy's `prepare` returned for the dense network.
    """

    model: Any
    network: Network
    genome: Genome
    samples: Samples
    composer: Composer
    dense: Any = None

    @cached_property
    def matrices(self) -> dict[str, torch.nn.Parameter]:
        """The candidate's matrices that are not dropped, by name, in the shapes that it has."""
        own = dict(self.model.named_parameters())
        return {name: own[name] for name in self.network.matrices if name in own}

    def spread(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """A value of each of a matrix's weights in the dense shape, zero where the candidate's cuts removed some."""
        return self.composer.spread(name, self.genome, value)

    def gradients(self) -> dict[str, torch.Tensor]:
        """Gradients of the mean loss over the samples, one backward pass a sample, float32, in its shapes."""
        return mean_gradients(self.model, self.network.task, self.samples, self.matrices)
