"""Error propagation while a level store is built: the weights by which a block computes the next block's inputs.

`dense` propagates no error. `sequential` uses the middle level of every unit. `expectation` uses the mean weight over
all levels, each weighted by the fraction it keeps (Týr-the-Pruner, Li et al., NeurIPS 2025, arXiv 2503.09657).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sparsesearch.supernet.compose import Composer


@contextmanager
def propagated_weights(composer: Composer, mode: str, block: int) -> Iterator[None]:
    """Give the block's matrices their propagated weights, in the dense shapes, while the `with` block runs.

    Only the contents of tensors change, in place, and are restored exactly.
    """
    names = [name for name, matrix in composer.network.matrices.items() if matrix.block == block]
    saved = {name: composer.dense[name].clone() for name in names}
    # Compute all before writing any, since composing reads the dense weights.
    weights = {name: propagated_weight(composer, name, mode) for name in names}
    try:
        for name, weight in weights.items():
            composer.dense[name].copy_(weight)
        yield
    finally:
        for name, weight in saved.items():
            composer.dense[name].copy_(weight)


def propagated_weight(composer: Composer, name: str, mode: str) -> torch.Tensor:
    """Return the propagated weight of a matrix, in the parameter's dense shape.

    A cut changes only the matrices that read its elements, since their removed columns make the other tensors' slices
    irrelevant.
    """
    counts = [
        count if use is None or use.reader >= 0 else 1
        for count, use in zip(composer.counts(name), (None, *composer.plans[name].uses), strict=True)
    ]
    if mode == "sequential":
        return composer.padded_weight(name, tuple(count // 2 for count in counts)).clone()
    total, weights = torch.zeros_like(composer.dense[name]), 0.0
    # The mean is over levels of one unit: of sparsity if there is any, else of the cut.
    axis = 0 if counts[0] > 1 else counts.index(max(counts))
    for level in range(counts[axis]):
        levels = tuple(level if i == axis else 0 for i in range(len(counts)))
        kept = composer.kept_fraction(name, levels)
        total += kept * composer.padded_weight(name, levels)
        weights += kept
    return total / weights
