"""Bias compensation: the change of a pruned matrix's bias that preserves its mean output (FLAP, An et al., 2023)."""

from __future__ import annotations

import torch


def bias_shift(weight: torch.Tensor, pruned: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return (W - Ŵ) E[x], shape (..., O); added to the bias, it preserves the mean output over calibration tokens.

    Args:
        weight: dense weights, (..., O, I).
        pruned: pruned weights of the same shape, zero for removed inputs.
        mean: E[x] of the inputs, (..., I).
    """
    shift: torch.Tensor = ((weight - pruned) @ mean[..., None])[..., 0]
    return shift
