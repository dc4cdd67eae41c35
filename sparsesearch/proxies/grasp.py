"""GraSP: the change of the gradient norm by removing weights."""

from __future__ import annotations

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import PrunedMatrix


@proxy("grasp", reads="matrix", needs=("gradients", "curvature"), supervised=True)
def grasp(matrix: PrunedMatrix) -> float:
    """Σ w (H g) over removed weights: half of the decrease of the squared gradient norm, to first order.

    Wang et al., 2020 (arXiv 2002.07376), for untrained networks, keep the weights whose removal would decrease the
    norm most; implementations differ in the sign.
    """
    assert matrix.curvature_GOI is not None
    return matrix.removes(matrix.dense_GOI * matrix.curvature_GOI)
