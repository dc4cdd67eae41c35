"""Magnitude pruning: keep the largest |w| of the layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.layer import Layer


def magnitude(layer: Layer, kept: Sequence[int], options: PrunerConfig) -> torch.Tensor:
    """Keep the largest |w| of the matrix, values unchanged; statistics are not read.

    Ties fall to the earlier weight (stable sort), so counts are exact and levels nested.

    Returns:
        Pruned weights, shape (L, O, I).
    """
    weight_OI = layer.weight_OI
    order = torch.argsort(weight_OI.abs().flatten(), descending=True, stable=True)
    levels = torch.zeros((len(kept), weight_OI.numel()), dtype=weight_OI.dtype, device=weight_OI.device)
    for level, count in zip(levels, kept, strict=True):
        level[order[:count]] = weight_OI.flatten()[order[:count]]
    return levels.view(len(kept), *weight_OI.shape)
