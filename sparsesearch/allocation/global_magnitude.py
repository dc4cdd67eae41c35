"""One global threshold on magnitudes."""

from __future__ import annotations

import numpy as np

from sparsesearch.allocation.density_budget import global_top_k
from sparsesearch.allocation.rule_inputs import AllocationConfig, Evidence, require
from sparsesearch.arrays import Floats


def global_magnitude(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """Global top-k of |w| after each matrix has kept its top `floor` share (the mask rule of ECoFLaP's release).

    Returns:
        Densities, (M,), in [floor (1 - sparsity), 1].
    """
    floor = np.full(len(evidence.sizes), options.floor * (1 - sparsity))
    return global_top_k(require(evidence.magnitudes), evidence.sizes, sparsity, floor)
