"""Random pruning, the control for all other criteria."""

from __future__ import annotations

import numpy as np
import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.layer import Group, Layer
from sparsesearch.pruning.score import Scope


def random(layer: Layer, options: PrunerConfig) -> tuple[torch.Tensor, Scope]:
    """Random: keep weights drawn by `seed` and the matrix's shape, values unchanged."""
    return _random_scores(options.seed, *layer.weight_OI.shape).to(layer.weight_OI.device), "layer"


def element_random(group: Group, options: PrunerConfig) -> torch.Tensor:
    """Random: remove elements drawn by `seed` and their number."""
    return _random_scores(options.seed, group.elements)


def _random_scores(seed: int, *shape: int) -> torch.Tensor:
    """Return numbers of this shape, uniform in [0, 1); they depend only on seed and shape, not on earlier calls."""
    return torch.from_numpy(np.random.default_rng([seed, *shape]).random(shape))
