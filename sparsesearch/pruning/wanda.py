"""Wanda (Sun et al., 2023, arXiv 2306.11695): |w| times the input's norm, compared within each output row."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def wanda(weight_OI: torch.Tensor, second_moment_II: torch.Tensor, kept: Sequence[int], damp: float) -> torch.Tensor:
    """Keep the highest |W_ij| ‖X_j‖₂ of every row, values unchanged; `damp` is not used.

    Rows keep equally many weights; where a level's count does not divide by the rows, the first rows keep one more.

    Returns:
        Pruned weights, shape (L, O, I).
    """
    rows = weight_OI.shape[0]
    score = weight_OI.abs() * second_moment_II.diagonal().clamp_min(0).sqrt()
    rank = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    row_index = torch.arange(rows, device=weight_OI.device)[:, None]
    levels = [weight_OI * (rank < count // rows + (row_index < count % rows)) for count in kept]
    return torch.stack(levels)
