"""Wanda (Sun et al., 2023, arXiv 2306.11695): |w| times the input's norm, compared within each output row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.layer import Layer


def wanda(layer: Layer, kept: Sequence[int], options: PrunerConfig) -> torch.Tensor:
    """Wanda: keep the highest |W_ij| ‖X_j‖₂ of every row, values unchanged.

    Rows keep equally many weights; where a level's count does not divide by the rows, the first rows keep one more.

    Returns:
        Pruned weights, shape (L, O, I).
    """
    weight_OI = layer.weight_OI
    rows = weight_OI.shape[0]
    score = weight_OI.abs() * layer.inputs.second_moment.diagonal().clamp_min(0).sqrt()
    rank = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    row_index = torch.arange(rows, device=weight_OI.device)[:, None]
    levels = [weight_OI * (rank < count // rows + (row_index < count % rows)) for count in kept]
    return torch.stack(levels)
