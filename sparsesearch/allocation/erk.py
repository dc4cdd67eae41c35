"""Densities from shapes alone."""

from __future__ import annotations

import math

import numpy as np

from sparsesearch.allocation.density_budget import proportional
from sparsesearch.allocation.given import AllocationConfig, Evidence
from sparsesearch.arrays import Floats


def erk(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """Erdős-Rényi-Kernel (RigL, Evci et al., 2020, arXiv 1911.11134): density ∝ Σ dims / Π dims.

    A matrix thus keeps weights in proportion to rows + columns + kernel; those that would keep more than all are dense
    and the factor is solved again for the rest.

    Returns:
        Densities, (M,), in [0, 1].
    """
    raw = np.array([sum(dims) / math.prod(dims) for dims in evidence.dims])
    return proportional(raw, evidence.sizes, 1 - sparsity)
