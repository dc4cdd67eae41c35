"""SNIP: sensitivity of the loss to masks of weights."""

from __future__ import annotations

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import PrunedMatrix


@proxy("snip", reads="matrix", needs=("gradients",), supervised=True)
def snip(matrix: PrunedMatrix) -> float:
    """Σ |w ∂L/∂w| of the dense network over removed weights: the loss's gradient by the mask (Lee et al., 2019)."""
    assert matrix.gradient_GOI is not None
    return matrix.removes((matrix.dense_GOI * matrix.gradient_GOI).abs())
