"""SparseGPT (Frantar & Alistarh, 2023, arXiv 2301.00774), all levels in one stacked column sweep.

Rows are independent given the Cholesky factor of the inverse second moment, so the levels of a layer are stacked as
extra rows and swept together: one sweep costs little more than one level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.errors import problem
from sparsesearch.pruning.layer import Layer, Levels
from sparsesearch.pruning.linalg import shared_inverse_cholesky
from sparsesearch.pruning.pattern import keep_n_of_m, n_of_m

# Columns whose errors reach the rest of the matrix by one product, and of these the columns updated one by one.
COLUMNS_PER_BLOCK, COLUMNS_PER_SWEEP = 128, 16


def sparsegpt(layer: Layer, kept: Sequence[int], options: PrunerConfig) -> Levels:
    """SparseGPT: prune column by column and let the weights that stay make up for the error.

    The mask is chosen in column blocks of 128 on w² / U_jj² over all rows; each block keeps its share of the level's
    count, so the total is exact. With a pattern N:M it is chosen group by group when the sweep reaches the group, on
    the weights as updated so far. The summed squared errors equal tr(Δ (H + λI) Δᵀ).

    Args:
        layer: dense weights, and H = E[x xᵀ]; weights of inputs that are always zero are set to zero.
        kept: weights kept at each level.
        options: `damp` is λ as a fraction of the mean diagonal of H; `pattern`.

    Returns:
        Pruned weights, shape (L, O, I), and their output errors.

    Raises:
        InputError: SS104 if a pattern does not fit, or with `options.polish`, whose masks are for unchanged weights.
    """
    if options.polish:
        raise problem(
            "SS104",
            f"pruners.polish {options.polish} is for pruners that keep values, and sparsegpt changes them.",
            fix="Use pruners.sparsity: wanda, or leave polish out.",
        )
    n, m = n_of_m(options.pattern, layer.weight_OI.shape, kept) if options.pattern else (0, 1)
    upper, dead, damping = shared_inverse_cholesky(layer.inputs, options.damp)
    inputs = layer.weight_OI.shape[1]
    # Inputs before outputs, so that a column of all rows is adjacent in memory.
    work = layer.weight_OI.masked_fill(dead, 0.0).T.repeat(len(kept), 1, 1)
    width = max(COLUMNS_PER_BLOCK // m * m, m)  # a multiple of m
    damped_errors = work.new_zeros(len(kept))
    for start in range(0, inputs, width):
        stop = min(start + width, inputs)
        block, factor = work[:, start:stop], upper[start:stop, start:stop]
        quotas = [count * stop // inputs - count * start // inputs for count in kept]
        keep = _largest((block / factor.diagonal()[:, None]) ** 2, quotas) if not n else None
        errors = _sweep(block, factor, keep, n, m)
        work[:, stop:] -= upper[start:stop, stop:].T @ errors
        damped_errors += errors.square().sum(dim=(1, 2))
    weights = work.mT.contiguous()
    change = (weights - layer.weight_OI).masked_fill(dead, 0.0)
    return Levels(weights, (damped_errors - damping * change.square().sum(dim=(1, 2))).clamp_min(0.0))


def _sweep(
    block_LIO: torch.Tensor, factor_II: torch.Tensor, keep_LIO: torch.Tensor | None, n: int, m: int
) -> torch.Tensor:
    """Prune the columns of a block in place; returns the scaled errors of each, of the shape of the block.

    Args:
        factor_II: the block's part of the Cholesky factor U.
        keep_LIO: mask of the weights that stay; None: the best N of M, chosen when the sweep reaches a group.
    """
    inputs = len(factor_II)
    diagonal = factor_II.diagonal()[:, None]
    width = max(COLUMNS_PER_SWEEP // m * m, m)
    errors = torch.empty_like(block_LIO)
    for start in range(0, inputs, width):
        stop = min(start + width, inputs)
        for j in range(start, stop):
            if keep_LIO is None and j % m == 0:
                score = (block_LIO[:, j : j + m] / diagonal[j : j + m]) ** 2
                group = keep_n_of_m(score.mT, n, m).mT
            keep = group[:, j % m] if keep_LIO is None else keep_LIO[:, j]
            column = block_LIO[:, j]
            errors[:, j] = column.masked_fill(keep, 0.0) / factor_II[j, j]
            column.masked_fill_(~keep, 0.0)
            block_LIO[:, j + 1 : stop] -= factor_II[j, j + 1 : stop, None] * errors[:, j : j + 1]
        block_LIO[:, stop:] -= factor_II[start:stop, stop:].T @ errors[:, start:stop]
    return errors


def _largest(score_LIO: torch.Tensor, quotas: Sequence[int]) -> torch.Tensor:
    """Return the mask of the `quotas[l]` largest scores at each level l, of the shape of the scores."""
    flat = score_LIO.flatten(1)
    keep = torch.zeros_like(flat, dtype=torch.bool)
    for level, quota in enumerate(quotas):
        keep[level, flat[level].topk(quota, sorted=False).indices] = True
    return keep.view_as(score_LIO)
