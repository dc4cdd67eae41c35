"""Bias compensation: what a pruned matrix's bias has to gain so that the mean output stays (FLAP, An et al., 2023)."""

from __future__ import annotations

import torch


def bias_shift(weight_OI: torch.Tensor, pruned_OI: torch.Tensor, mean_I: torch.Tensor) -> torch.Tensor:
    """(W - Ŵ) E[x], shape (O,): added to the bias it preserves the mean output over the calibration tokens exactly.

    Args:
        weight_OI: dense weights.
        pruned_OI: pruned weights at full width, zero where inputs were removed.
        mean_I: E[x] of the inputs.
    """
    return (weight_OI - pruned_OI) @ mean_I
