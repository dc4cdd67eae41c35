"""Minitron (Muralidharan et al., 2024, arXiv 2407.14679): an element's activation, from forward passes only."""

from __future__ import annotations

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.layer import Group


def minitron(group: Group, options: PrunerConfig) -> torch.Tensor:
    """Minitron: remove elements by sqrt(E[(mean |x|)²]) over sequences, the L2 norm over their inputs and readers."""
    squares = [reader.by_element(reader.layer.inputs.sequence_square) for reader in group.readers]
    return torch.stack(squares).sum(dim=0).sqrt()
