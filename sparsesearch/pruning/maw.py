"""Maximum absolute weight (MAW), data-free: the maximum alone, where the library optipfair adds |min|."""

from __future__ import annotations

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.layer import Group


def maw(group: Group, options: PrunerConfig) -> torch.Tensor:
    """MAW: remove elements by max_i |W_ik| of their rows, summed over rows and writers; statistics are not read."""
    return torch.stack([writer.weight.abs().amax(dim=2).sum(dim=1) for writer in group.writers]).sum(dim=0)
