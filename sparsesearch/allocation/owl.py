"""Blocks with many outliers keep more."""

from __future__ import annotations

import numpy as np

from sparsesearch.allocation.density_budget import project
from sparsesearch.allocation.given import AllocationConfig, Evidence, measured
from sparsesearch.arrays import Floats


def owl(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """OWL (Yin et al., 2024, arXiv 2310.05175): density = D' - mean(D') + 1 - S, one value a block.

    D is the share of a block's Wanda scores that are outliers, D' is D scaled linearly to [0, 2 `owl_range`]. The mean
    is over weights, so the budget holds for blocks of unequal size; what is clipped is shared by a further shift.

    Returns:
        Densities, (M,), in [0, 1], over a range of 2 `owl_range` where none is clipped.
    """
    outliers = evidence.block_mean(measured(evidence.outliers), evidence.sizes)
    scale = max(float(np.ptp(outliers)), np.finfo(np.float64).tiny)
    wanted = (outliers - outliers.min()) / scale * 2 * options.owl_range
    return project(wanted, evidence.sizes, sparsity)
