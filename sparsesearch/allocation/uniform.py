"""The same sparsity everywhere."""

from __future__ import annotations

import numpy as np

from sparsesearch.allocation.density_budget import TOLERANCE, project
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence
from sparsesearch.arrays import Floats

LAST_MATRIX_DENSITY = 0.2


def uniform(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """Return the density 1 - sparsity for every matrix, (M,)."""
    return np.full(len(evidence.sizes), 1 - sparsity)


def uniform_plus(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """Uniform+ (Gale et al., 2019, arXiv 1902.09574): the first matrix stays dense, the last keeps at least 20 %.

    All others have one density. Uniform if the budget is smaller than these two minima.

    Returns:
        Densities, (M,), in [0, 1].
    """
    protected = np.zeros(len(evidence.sizes))
    protected[-1] = LAST_MATRIX_DENSITY
    protected[0] = 1.0
    density = uniform(evidence, sparsity, options)
    if evidence.sizes @ protected > evidence.sizes @ density + TOLERANCE:
        return density
    return project(np.maximum(density, protected), evidence.sizes, sparsity, low=protected)
