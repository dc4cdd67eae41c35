"""Magnitude pruning: keep the largest |w| of the layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def magnitude(
    weight_OI: torch.Tensor, second_moment_II: torch.Tensor, kept: Sequence[int], damp: float
) -> torch.Tensor:
    """The `kept` largest weights by absolute value at each level, values unchanged; statistics are not read.

    Ties fall to the earlier weight (stable sort), so counts are exact and levels nested.

    Returns:
        Pruned weights, shape (L, O, I).
    """
    order = torch.argsort(weight_OI.abs().flatten(), descending=True, stable=True)
    levels = torch.zeros((len(kept), weight_OI.numel()), dtype=weight_OI.dtype, device=weight_OI.device)
    for level, count in zip(levels, kept, strict=True):
        level[order[:count]] = weight_OI.flatten()[order[:count]]
    return levels.view(len(kept), *weight_OI.shape)
