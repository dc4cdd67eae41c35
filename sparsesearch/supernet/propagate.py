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
    """For the duration, the block's linears hold their propagated weights in the dense shapes.

    Only tensors' contents change, in place, and come back exactly.
    """
    prefix = composer.architecture.blocks[block] + "."
    saved = {path: weight.clone() for path, weight in composer.dense.items() if path.startswith(prefix)}
    # All computed before any is written: composing reads the dense weights.
    replaced = {path: propagated(composer, path, mode) for path in saved}
    try:
        for path, weight in replaced.items():
            composer.dense[path].copy_(weight)
        yield
    finally:
        for path, weight in saved.items():
            composer.dense[path].copy_(weight)


def propagated(composer: Composer, path: str, mode: str) -> torch.Tensor:
    """The weight of one linear as error propagation sees it, dense shape.

    A cut acts through the output linear alone, whose removed columns silence the rest.
    """
    sparsities, cuts = composer.count(path)
    if composer.linears[path].cut_axis == "rows":
        cuts = 1
    if mode == "sequential":
        return composer.padded(path, (sparsities // 2, cuts // 2))[0].clone()
    total, weights = torch.zeros_like(composer.dense[path]), 0.0
    levels = [(s, 0) for s in range(sparsities)] if sparsities > 1 else [(0, c) for c in range(cuts)]
    for level in levels:
        kept = composer.kept_fraction(path, level)
        total += kept * composer.padded(path, level)[0]
        weights += kept
    return total / weights
