"""Wanda (Sun et al., 2023, arXiv 2306.11695): |w| times the input's norm, compared within each output row."""

from __future__ import annotations

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.input_moments import norm
from sparsesearch.pruning.layer import Layer
from sparsesearch.pruning.score import Scope


def wanda(layer: Layer, options: PrunerConfig) -> tuple[torch.Tensor, Scope]:
    """Wanda: keep the highest |W_ij| ‖X_j‖₂ of every row, values unchanged."""
    return layer.weight_OI.abs() * norm(layer.inputs), "row"
