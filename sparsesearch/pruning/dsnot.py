"""DSnoT (Zhang et al., 2024, arXiv 2310.08915): swaps kept and pruned weights until each row's mean output is right.

With c_rj = W_rj E[x_j] the expected error of row r is e_r = Σ_{pruned j} c_rj. A cycle grows the pruned weight that
takes most off |e_r| for its input's variance, then prunes the kept weight of least Wanda score whose c has the sign
that compensates.
"""

from __future__ import annotations

import torch

from sparsesearch.pruning.input_moments import norm, variance
from sparsesearch.pruning.layer import Layer

CYCLES = 50
ENOUGH = 0.1  # |e| at which a row is left alone


def dsnot(layer: Layer, keep_LOI: torch.Tensor, group: int) -> torch.Tensor:
    """Masks with as many weights in every row and every `group` adjacent inputs, and |e| nowhere larger.

    Args:
        layer: weights, mean and second moment of the inputs.
        keep_LOI: masks to polish; they stay as they are.
        group: swaps stay inside groups of so many adjacent inputs; I for anywhere in the row.
    """
    effect_OI = layer.weight_OI * layer.inputs.mean
    gain_OI = effect_OI / variance(layer.inputs).clamp_min(torch.finfo(effect_OI.dtype).tiny)
    cost_OI = layer.weight_OI.abs() * norm(layer.inputs)
    group_I = torch.arange(effect_OI.shape[1], device=effect_OI.device) // group
    polished = keep_LOI.clone()
    for keep_OI in polished:
        for _ in range(CYCLES):
            if not _cycle(keep_OI, effect_OI, gain_OI, cost_OI, group_I):
                break
    return polished


def _cycle(
    keep_OI: torch.Tensor, effect_OI: torch.Tensor, gain_OI: torch.Tensor, cost_OI: torch.Tensor, group_I: torch.Tensor
) -> bool:
    """Swap one pair in every row where that lowers |e|, in place; whether any was swapped."""
    rows = torch.arange(len(keep_OI), device=keep_OI.device)
    error = effect_OI.masked_fill(keep_OI, 0.0).sum(dim=1)
    gain, grown = (gain_OI * error.sign()[:, None]).masked_fill(keep_OI, -torch.inf).max(dim=1)
    left = error - effect_OI[rows, grown]
    compensates = keep_OI & (group_I == group_I[grown][:, None]) & (effect_OI * left[:, None] < 0)
    cost, pruned = cost_OI.masked_fill(~compensates, torch.inf).min(dim=1)
    left = left + effect_OI[rows, pruned]
    swap = (error.abs() >= ENOUGH) & (gain > 0) & cost.isfinite() & (left.abs() < error.abs())
    keep_OI[rows[swap], grown[swap]] = True
    keep_OI[rows[swap], pruned[swap]] = False
    return bool(swap.any())
