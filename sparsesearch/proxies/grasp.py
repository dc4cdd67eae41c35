"""GraSP: what removing weights does to the flow of gradients."""

from __future__ import annotations

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import PrunedMatrix


@proxy("grasp", reads="matrix", needs=("gradients", "curvature"), supervised=True)
def grasp(matrix: PrunedMatrix) -> float:
    """Σ w (H g) over what is removed: half of what the squared gradient norm falls by, to first order.

    Wang et al., 2020 (arXiv 2002.07376), who keep the weights without which gradients would shrink most; sources differ
    in the sign. Their networks are untrained.
    """
    assert matrix.curvature_GOI is not None
    return matrix.removes(matrix.dense_GOI * matrix.curvature_GOI)
