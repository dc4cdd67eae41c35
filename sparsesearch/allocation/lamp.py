"""One global threshold on scores that are relative to the remaining weights of the matrix."""

from __future__ import annotations

import numpy as np

from sparsesearch.allocation.density_budget import global_top_k
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence, require
from sparsesearch.arrays import Floats


def lamp(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """LAMP (Lee et al., 2021, arXiv 2010.07611): global top-k of w² / Σ v² over the weights v not below w.

    A matrix's largest weight scores 1, so each keeps at least one weight if the budget has one for each.

    Returns:
        Densities, (M,), in [0, 1].
    """
    # Thinned tables do not hold the largest weight's score of 1, so the floor keeps that weight.
    floor = np.minimum(1 / evidence.sizes, 1 - sparsity)
    return global_top_k(require(evidence.lamp_thresholds), evidence.sizes, sparsity, floor)
