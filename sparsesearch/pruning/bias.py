"""Bias compensation: what a pruned matrix's bias has to gain so that the mean output stays (FLAP, An et al., 2023)."""

from __future__ import annotations

import torch


def bias_shift(weight: torch.Tensor, pruned: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """(W - Ŵ) E[x], shape (..., O): added to the bias it preserves the mean output over the calibration tokens exactly.

    Args:
        weight: dense weights, (..., O, I).
        pruned: pruned weights at full width, zero where inputs were removed, likewise.
        mean: E[x] of the inputs, (..., I).
    """
    shift: torch.Tensor = ((weight - pruned) @ mean[..., None])[..., 0]
    return shift
