"""The same sparsity everywhere."""

from __future__ import annotations

import numpy as np

from sparsesearch.allocation.density_budget import TOLERANCE, project
from sparsesearch.allocation.given import AllocationConfig, Evidence
from sparsesearch.arrays import Floats

LAST_FLOOR = 0.2


def uniform(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """Every matrix keeps 1 - sparsity, (M,)."""
    return np.full(len(evidence.sizes), 1 - sparsity)


def uniform_plus(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """Uniform+ (Gale et al., 2019, arXiv 1902.09574): the first matrix stays dense, the last keeps at least 20 %.

    The rest shares what is left evenly. Uniform where the budget does not even hold what is protected.

    Returns:
        Densities, (M,), in [0, 1].
    """
    protected = np.zeros(len(evidence.sizes))
    protected[-1] = LAST_FLOOR
    protected[0] = 1.0
    density = uniform(evidence, sparsity, options)
    if evidence.sizes @ protected > evidence.sizes @ density + TOLERANCE:
        return density
    return project(np.maximum(density, protected), evidence.sizes, sparsity, low=protected)
