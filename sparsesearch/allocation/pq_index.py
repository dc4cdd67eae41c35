"""Matrices whose weights are already nearly sparse keep less."""

from __future__ import annotations

from sparsesearch.allocation.density_budget import proportional
from sparsesearch.allocation.given import AllocationConfig, Evidence, measured
from sparsesearch.arrays import Floats

P, Q = 0.5, 1.0
LARGEST_SPARSITY = 0.9


def kept_share(index: Floats, p: float = P, q: float = Q) -> Floats:
    """The bound m / d = (1 - I)^(q p / (q - p)) on the share of weights that carry the norm, the paper's with η = 0.

    Equal to k / d for k equal nonzeros among d weights, whatever p < q.
    """
    share: Floats = (1 - index) ** (q * p / (q - p))
    return share


def pq_index(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """SAP (Diao et al., 2023, arXiv 2302.05601) at layer scope: sparsity = min(γ (1 - m / d), 0.9).

    m / d is the bound of `kept_share`; the paper's γ is solved for the budget instead of being given. The cap rises
    with a budget that needs more than 90 %. Uniform where all weights of all matrices are equal.

    Returns:
        Densities, (M,), in [min(0.1, 1 - sparsity), 1].
    """
    removable = 1 - kept_share(measured(evidence.pq_index))
    return 1 - proportional(removable, evidence.sizes, sparsity, high=max(LARGEST_SPARSITY, sparsity))
