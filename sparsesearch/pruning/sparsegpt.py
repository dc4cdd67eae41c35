"""SparseGPT (Frantar & Alistarh, 2023, arXiv 2301.00774), all levels in one stacked column sweep.

Rows are independent given the Cholesky factor of the inverse second moment, so the levels of a layer are stacked as
extra rows and swept together: one sweep costs little more than one level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.errors import problem
from sparsesearch.pruning.layer import Layer
from sparsesearch.pruning.linalg import inverse_cholesky
from sparsesearch.pruning.pattern import keep_n_of_m, n_of_m

COLUMNS_PER_BLOCK = 128


def sparsegpt(layer: Layer, kept: Sequence[int], options: PrunerConfig) -> torch.Tensor:
    """SparseGPT: prune column by column and let the weights that stay make up for the error.

    The mask is chosen in column blocks of 128 on w² / U_jj² over all rows; each block keeps its share of the level's
    count, so the total is exact. With a pattern N:M it is chosen group by group when the sweep reaches the group, on
    the weights as updated so far. The summed squared errors equal tr(Δ (H + λI) Δᵀ).

    Args:
        layer: dense weights, and H = E[x xᵀ]; weights of inputs that are always zero are set to zero.
        kept: weights kept at each level.
        options: `damp` is λ as a fraction of the mean diagonal of H; `pattern`.

    Returns:
        Pruned weights, shape (L, O, I).

    Raises:
        InputError: SS104 if a pattern does not fit, or with `options.polish`, whose masks are for unchanged weights.
    """
    if options.polish:
        raise problem(
            "SS104",
            f"pruners.polish {options.polish} is for pruners that keep values, and sparsegpt changes them.",
            fix="Use pruners.sparsity: wanda, or leave polish out.",
        )
    n, m = n_of_m(options.pattern, layer.weight_OI.shape, kept) if options.pattern else (1, 1)
    upper, dead = inverse_cholesky(layer.inputs.second_moment, options.damp)
    inputs = layer.weight_OI.shape[1]
    work = layer.weight_OI.masked_fill(dead, 0.0).repeat(len(kept), 1, 1)
    width = max(COLUMNS_PER_BLOCK // m * m, m)  # a multiple of m
    for start in range(0, inputs, width):
        stop = min(start + width, inputs)
        block, factor = work[:, :, start:stop], upper[start:stop, start:stop]
        quotas = [count * stop // inputs - count * start // inputs for count in kept]
        score = (block / factor.diagonal()) ** 2
        keep = torch.empty_like(block, dtype=torch.bool) if options.pattern else _largest(score, quotas)
        errors = torch.empty_like(block)
        for j in range(stop - start):
            if options.pattern and j % m == 0:
                group = slice(j, j + m)
                keep[:, :, group] = keep_n_of_m((block[:, :, group] / factor.diagonal()[group]) ** 2, n, m)
            column = block[:, :, j]
            pruned = column * keep[:, :, j]
            errors[:, :, j] = (column - pruned) / factor[j, j]
            block[:, :, j:] -= errors[:, :, j : j + 1] * factor[j, j:]
            block[:, :, j] = pruned
        work[:, :, stop:] -= errors @ upper[start:stop, stop:]
    return work


def _largest(score_LOJ: torch.Tensor, quotas: Sequence[int]) -> torch.Tensor:
    """Return the mask of the `quotas[l]` largest scores at each level l, of the shape of the scores."""
    flat = score_LOJ.flatten(1)
    keep = torch.zeros_like(flat, dtype=torch.bool)
    for level, quota in enumerate(quotas):
        keep[level, flat[level].argsort(descending=True, stable=True)[:quota]] = True
    return keep.view_as(score_LOJ)
