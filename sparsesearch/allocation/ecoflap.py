"""Matrices to which the loss is more sensitive keep more."""

from __future__ import annotations

from sparsesearch.allocation.density_budget import proportional
from sparsesearch.allocation.given import AllocationConfig, Evidence, measured
from sparsesearch.arrays import Floats


def ecoflap(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """ECoFLaP (Sung et al., 2024, arXiv 2310.02998), first order: a floor, and the rest in proportion to Σ w² g².

    Every matrix keeps `floor` of what uniform pruning would leave it; the other weights of the budget go to matrices in
    proportion to their summed scores, full ones passing theirs on.

    Returns:
        Densities, (M,), in [floor (1 - sparsity), 1].
    """
    mean_score = measured(evidence.gradient_square) / evidence.sizes
    return proportional(mean_score, evidence.sizes, 1 - sparsity, low=options.floor * (1 - sparsity))
