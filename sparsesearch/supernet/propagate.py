"""Error propagation while a level store is built: what a block hands to the next one.

`dense` propagates nothing. `sequential` lets the middle level of every unit act. `expectation` uses the mean weight
over all levels, each weighted by the fraction it keeps (Týr-the-Pruner, Li et al., NeurIPS 2025, arXiv 2503.09657).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sparsesearch.supernet.compose import Composer


@contextmanager
def propagated_weights(composer: Composer, mode: str, block: int) -> Iterator[None]:
    """For the duration, the block's matrices hold their propagated weights in the dense shapes.

    Only tensors' contents change, in place, and come back exactly.
    """
    names = [name for name, matrix in composer.network.matrices.items() if matrix.block == block]
    saved = {name: composer.dense[name].clone() for name in names}
    # All computed before any is written: composing reads the dense weights.
    replaced = {name: propagated(composer, name, mode) for name in names}
    try:
        for name, weight in replaced.items():
            composer.dense[name].copy_(weight)
        yield
    finally:
        for name, weight in saved.items():
            composer.dense[name].copy_(weight)


def propagated(composer: Composer, name: str, mode: str) -> torch.Tensor:
    """One matrix as error propagation sees it, in the parameter's dense shape.

    A cut acts through the matrices that read its elements alone, whose removed columns silence the rest.
    """
    counts = [
        count if use is None or use.reader >= 0 else 1
        for count, use in zip(composer.counts(name), (None, *composer.plans[name].uses), strict=True)
    ]
    if mode == "sequential":
        return composer.padded_weight(name, tuple(count // 2 for count in counts)).clone()
    total, weights = torch.zeros_like(composer.dense[name]), 0.0
    # One kind of level at a time: sparsity where there is any, else the cut.
    axis = 0 if counts[0] > 1 else counts.index(max(counts))
    for level in range(counts[axis]):
        levels = tuple(level if i == axis else 0 for i in range(len(counts)))
        kept = composer.kept_fraction(name, levels)
        total += kept * composer.padded_weight(name, levels)
        weights += kept
    return total / weights
