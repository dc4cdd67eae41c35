"""Block influence (ShortGPT, Men et al., 2024, arXiv 2403.03853)."""

from __future__ import annotations

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import PrunedMatrix


@proxy("block_influence", reads="matrix")
def block_influence(matrix: PrunedMatrix) -> float:
    """Share removed of each matrix times 1 - cos(input, output) of its block, summed (ShortGPT)."""
    return matrix.turn * float(matrix.removed_GOI.double().mean())
