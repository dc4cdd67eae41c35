"""Block influence."""

from __future__ import annotations

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import PrunedMatrix


@proxy("block_influence", reads="matrix")
def block_influence(matrix: PrunedMatrix) -> float:
    """Share of each matrix that is removed, times how far its block turns hidden states, summed (ShortGPT)."""
    return matrix.turn * float(matrix.removed_GOI.double().mean())
