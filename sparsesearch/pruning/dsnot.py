"""DSnoT (Zhang et al., 2024, arXiv 2310.08915): swaps kept and pruned weights to restore each row's mean output.

With c_rj = W_rj E[x_j] the expected error of row r is e_r = Σ_{pruned j} c_rj. A cycle restores the pruned weight that
reduces |e_r| most relative to its input's variance, then prunes the kept weight of least Wanda score whose c has the
sign that compensates.
"""

from __future__ import annotations

import torch

from sparsesearch.pruning.input_moments import norm, variance
from sparsesearch.pruning.layer import Layer

MAX_CYCLES = 50
# Rows with a smaller |e| are not changed.
ERROR_TOLERANCE = 0.1


def dsnot(layer: Layer, keep_LOI: torch.Tensor, group: int) -> torch.Tensor:
    """Return masks (L, O, I) with the same counts in every row and every `group` adjacent inputs, and no larger |e|.

    Args:
        layer: weights, mean and second moment of the inputs.
        keep_LOI: masks to improve, (L, O, I); not modified.
        group: number of adjacent inputs within which weights are swapped; I for the complete row.
    """
    effect_OI = layer.weight_OI * layer.inputs.mean
    gain_OI = effect_OI / variance(layer.inputs).clamp_min(torch.finfo(effect_OI.dtype).tiny)
    cost_OI = layer.weight_OI.abs() * norm(layer.inputs)
    group_I = torch.arange(effect_OI.shape[1], device=effect_OI.device) // group
    polished = keep_LOI.clone()
    for keep_OI in polished:
        for _ in range(MAX_CYCLES):
            if not _cycle(keep_OI, effect_OI, gain_OI, cost_OI, group_I):
                break
    return polished


def _cycle(
    keep_OI: torch.Tensor, effect_OI: torch.Tensor, gain_OI: torch.Tensor, cost_OI: torch.Tensor, group_I: torch.Tensor
) -> bool:
    """Swap one pair in every row where that lowers |e|, in place; returns whether any was swapped."""
    rows = torch.arange(len(keep_OI), device=keep_OI.device)
    error = effect_OI.masked_fill(keep_OI, 0.0).sum(dim=1)
    gain, restored = (gain_OI * error.sign()[:, None]).masked_fill(keep_OI, -torch.inf).max(dim=1)
    new_error = error - effect_OI[rows, restored]
    compensates = keep_OI & (group_I == group_I[restored][:, None]) & (effect_OI * new_error[:, None] < 0)
    cost, pruned = cost_OI.masked_fill(~compensates, torch.inf).min(dim=1)
    new_error = new_error + effect_OI[rows, pruned]
    swap = (error.abs() >= ERROR_TOLERANCE) & (gain > 0) & cost.isfinite() & (new_error.abs() < error.abs())
    keep_OI[rows[swap], restored[swap]] = True
    keep_OI[rows[swap], pruned[swap]] = False
    return bool(swap.any())
