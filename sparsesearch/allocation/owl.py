"""Blocks with many outlier weights keep more."""

from __future__ import annotations

import numpy as np

from sparsesearch.allocation.density_budget import project
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence, require
from sparsesearch.arrays import Floats


def owl(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """OWL (Yin et al., 2024, arXiv 2310.05175): density = D' - mean(D') + 1 - S, one value a block.

    D is the share of a block's Wanda scores that are outliers, D' is D scaled linearly to [0, 2 `owl_range`]. The mean
    is over weights, so the budget holds for blocks of unequal size; clipping is compensated by a further shift.

    Returns:
        Densities, (M,), in [0, 1], over a range of 2 `owl_range` if none is clipped.
    """
    outliers = evidence.block_mean(require(evidence.outliers), evidence.sizes)
    scale = max(float(np.ptp(outliers)), np.finfo(np.float64).tiny)
    density = (outliers - outliers.min()) / scale * 2 * options.owl_range
    return project(density, evidence.sizes, sparsity)
