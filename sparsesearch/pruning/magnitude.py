"""Magnitude pruning of weights and of elements; statistics are not read."""

from __future__ import annotations

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.layer import Group, Layer
from sparsesearch.pruning.score import Scope


def magnitude(layer: Layer, options: PrunerConfig) -> tuple[torch.Tensor, Scope]:
    """Magnitude: keep the largest |w| of the matrix, values unchanged."""
    return layer.weight_OI.abs(), "layer"


def element_magnitude(group: Group, options: PrunerConfig) -> torch.Tensor:
    """Magnitude: remove elements by the L2 norm of all their weights, writers' rows and readers' columns."""
    squares = [reader.by_element(reader.layer.weight_OI.square().sum(dim=0)) for reader in group.readers]
    squares += [writer.weight.square().sum(dim=(1, 2)) for writer in group.writers]
    return torch.stack(squares).sum(dim=0).sqrt()
