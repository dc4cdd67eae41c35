"""Random pruning, the control that every criterion has to beat."""

from __future__ import annotations

import numpy as np
import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.layer import Group, Layer
from sparsesearch.pruning.score import Scope


def random(layer: Layer, options: PrunerConfig) -> tuple[torch.Tensor, Scope]:
    """Random: keep weights drawn by `seed` and the matrix's shape, values unchanged."""
    return _drawn(options.seed, *layer.weight_OI.shape).to(layer.weight_OI.device), "layer"


def element_random(group: Group, options: PrunerConfig) -> torch.Tensor:
    """Random: remove elements drawn by `seed` and their number."""
    return _drawn(options.seed, group.elements)


def _drawn(seed: int, *shape: int) -> torch.Tensor:
    """Uniform in [0, 1), a function of seed and shape alone, so that no order of calls changes it."""
    return torch.from_numpy(np.random.default_rng([seed, *shape]).random(shape))
