"""PQ index, a control that reads no data."""

from __future__ import annotations

from sparsesearch.allocation.evidence import pq
from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import PrunedMatrix


@proxy("pq_index", reads="matrix")
def pq_index(matrix: PrunedMatrix) -> float:
    """PQ index of each matrix's kept weights times their share, summed: sparser weights could lose more.

    Diao et al., 2023 (arXiv 2302.05601), with p = 1/2 and q = 1.
    """
    kept = matrix.pruned_GOI[matrix.pruned_GOI != 0]
    return pq(kept) * kept.numel() / matrix.dense_GOI.numel() if kept.numel() else 0.0
