"""Fisher information of the removed weights."""

from __future__ import annotations

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import PrunedMatrix


@proxy("fisher", reads="matrix", needs=("gradients",), supervised=True)
def fisher(matrix: PrunedMatrix) -> float:
    """Σ ½ w² E[(∂L/∂w)²] over removed weights: the loss's second order, with the diagonal empirical Fisher.

    Theis et al., 2018 (arXiv 1801.05787), for weights instead of channels.
    """
    assert matrix.square_GOI is not None
    return matrix.removes(matrix.dense_GOI.square() * matrix.square_GOI / 2)
