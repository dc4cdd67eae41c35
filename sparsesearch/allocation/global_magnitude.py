"""One global threshold on magnitudes."""

from __future__ import annotations

import numpy as np

from sparsesearch.allocation.density_budget import top_share
from sparsesearch.allocation.given import AllocationConfig, Evidence, measured
from sparsesearch.arrays import Floats


def global_magnitude(evidence: Evidence, sparsity: float, options: AllocationConfig) -> Floats:
    """Global top-k of |w| after each matrix has kept its own top share (the mask rule of ECoFLaP's release).

    Returns:
        Densities, (M,), in [floor (1 - sparsity), 1].
    """
    floor = np.full(len(evidence.sizes), options.floor * (1 - sparsity))
    return top_share(measured(evidence.magnitudes), evidence.sizes, sparsity, floor)
