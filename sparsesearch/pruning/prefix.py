"""Keep the first elements, for networks whose elements are already sorted, as those of an elastic supernet are."""

from __future__ import annotations

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.layer import Group


def prefix(group: Group, options: PrunerConfig) -> torch.Tensor:
    """Prefix: remove the last elements first."""
    return -torch.arange(group.elements)
