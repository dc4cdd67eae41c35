"""Matrices whose weights are already nearly sparse keep less."""

from __future__ import annotations

import numpy as np

from sparsesearch.allocation.density_budget import proportional_shares
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence, require
from sparsesearch.arrays import Floats

P, Q = 0.5, 1.0
LARGEST_SPARSITY = 0.9


def kept_share(index: Floats, p: float = P, q: float = Q) -> Floats:
    """Return the paper's bound m / d = (1 - I)^(q p / (q - p)), η = 0, on the share of weights that carry the norm.

    Equal to k / d for k equal nonzeros among d weights, for any p < q.

    Args:
        index: PQ indices I, (M,), in [0, 1].
    """
    return np.asarray((1 - index) ** (q * p / (q - p)))


def pq_index(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """SAP (Diao et al., 2023, arXiv 2302.05601) at layer scope: sparsity = min(γ (1 - m / d), 0.9).

    m / d is the bound of `kept_share`; the paper's γ is solved for the budget instead of being given. The cap rises if
    the budget needs more than 90 %. Uniform if all weights of all matrices are equal.

    Returns:
        Densities, (M,), in [min(0.1, 1 - sparsity), 1].
    """
    removable = 1 - kept_share(require(evidence.pq_index))
    return 1 - proportional_shares(removable, evidence.sizes, sparsity, high=max(LARGEST_SPARSITY, sparsity))
