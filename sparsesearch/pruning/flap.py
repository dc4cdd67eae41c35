"""FLAP (An et al., 2023, arXiv 2312.11983): the fluctuation of a reader's output with an input."""

from __future__ import annotations

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.input_moments import variance
from sparsesearch.pruning.layer import Group


def flap(group: Group, options: PrunerConfig) -> torch.Tensor:
    """FLAP: remove elements by Var(x_j) ‖W_:j‖² (WIFV), summed over their inputs and readers.

    This is the squared output error of removing input j alone if its mean is moved into the bias; see `bias_shift`.
    """
    fluctuations = [
        reader.by_element(variance(reader.layer.inputs) * reader.layer.weight_OI.square().sum(dim=0))
        for reader in group.readers
    ]
    return torch.stack(fluctuations).sum(dim=0)
