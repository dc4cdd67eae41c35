"""Densities from the shapes of matrices."""

from __future__ import annotations

import math

import numpy as np

from sparsesearch.allocation.density_budget import proportional_shares
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence
from sparsesearch.arrays import Floats


def erk(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """Erdős-Rényi-Kernel (RigL, Evci et al., 2020, arXiv 1911.11134): density ∝ Σ dims / Π dims.

    The number of weights kept is proportional to rows + columns + kernel; matrices whose density would exceed 1 stay
    dense and the factor is solved again for the rest.

    Returns:
        Densities, (M,), in [0, 1].
    """
    raw = np.array([sum(dims) / math.prod(dims) for dims in evidence.dims])
    return proportional_shares(raw, evidence.sizes, 1 - sparsity)
