"""Matrices to which the loss is more sensitive keep more."""

from __future__ import annotations

from sparsesearch.allocation.density_budget import proportional_shares
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence, require
from sparsesearch.arrays import Floats


def ecoflap(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """ECoFLaP (Sung et al., 2024, arXiv 2310.02998), first order: a floor, and the rest in proportion to Σ w² g².

    Every matrix keeps the share `floor` of its weights under uniform pruning; the rest of the budget is divided in
    proportion to summed scores, and the surplus of full matrices is divided again.

    Returns:
        Densities, (M,), in [floor (1 - sparsity), 1].
    """
    mean_score = require(evidence.gradient_square) / evidence.sizes
    return proportional_shares(mean_score, evidence.sizes, 1 - sparsity, low=options.floor * (1 - sparsity))
