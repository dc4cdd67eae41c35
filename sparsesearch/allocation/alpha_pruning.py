"""Blocks with heavy-tailed spectra keep more."""

from __future__ import annotations

import numpy as np

from sparsesearch.allocation.density_budget import project
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence, require
from sparsesearch.arrays import Floats


def alpha_pruning(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """AlphaPruning (Lu et al., 2024, arXiv 2410.10912): sparsity ∝ a block's mean tail exponent, mapped.

    The map is linear onto [1 - ε, 1 + ε] (ε is `alpha_range`; 0.3 for language models, 0.2 for vision transformers)
    and its mean over weights is scaled to the sparsity. Clipping is compensated by one shift of all densities.

    Returns:
        Densities, (M,), in [0, 1]; the extreme sparsities have ratio (1 + ε) / (1 - ε) if none is clipped.
    """
    exponent = evidence.block_mean(require(evidence.tail_exponent))
    spread = float(np.ptp(exponent))
    relative = (exponent - exponent.min()) / spread if spread > 0 else np.full(len(exponent), 0.5)
    mapped = 1 + options.alpha_range * (2 * relative - 1)
    removed = sparsity * mapped / np.average(mapped, weights=evidence.sizes)
    return project(1 - removed, evidence.sizes, sparsity)
