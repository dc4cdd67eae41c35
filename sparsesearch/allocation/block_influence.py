"""Blocks that change their input less keep less."""

from __future__ import annotations

import numpy as np

from sparsesearch.allocation.density_budget import proportional_shares
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence, require
from sparsesearch.arrays import Floats


def block_influence(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """Sparsity ∝ exp(-BI / τ), BI = 1 - E cos(input, output) of the block, τ `influence_temperature`.

    BI is ShortGPT's block influence (Men et al., 2024, arXiv 2403.03853), which drops the lowest blocks completely. The
    softmax is MoDeGPT's graded form (Lin et al., 2025, arXiv 2408.09632): the sparsities of given mean S that minimise
    Σ s BI - τ H(s), H their entropy. The mean is over weights; a block whose sparsity would exceed 1 is emptied and the
    factor is solved again for the rest.

    Returns:
        Densities, (M,), in [0, 1].
    """
    influence = 1 - require(evidence.cosines)[evidence.blocks]
    raw = np.exp(-(influence - influence.min()) / options.influence_temperature)
    return 1 - proportional_shares(raw, evidence.sizes, sparsity)
