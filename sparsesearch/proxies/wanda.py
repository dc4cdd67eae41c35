"""Wanda energy of the removed weights."""

from __future__ import annotations

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import PrunedMatrix


@proxy("wanda", reads="matrix")
def wanda(matrix: PrunedMatrix) -> float:
    """Share of Σ |w| √E[x²] removed from each matrix, summed (Sun et al., 2024)."""
    scale = matrix.inputs.second_moment.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    energy = matrix.dense_GOI.abs() * scale[:, None, :]
    return matrix.removes(energy) / max(float(energy.double().sum()), 1e-30)
