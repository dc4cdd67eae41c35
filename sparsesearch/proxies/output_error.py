"""Output error of each matrix alone, computed from the calibration statistics without a forward pass."""

from __future__ import annotations

from sparsesearch.calibration import InputStatistics
from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import PrunedMatrix
from sparsesearch.pruning import layer_error


def relative_error(matrix: PrunedMatrix, inputs: InputStatistics) -> float:
    """Return the mean over groups of tr(Δ H Δᵀ) / tr(W H Wᵀ), for inputs of second moment H, (G, I, I)."""
    pairs = zip(matrix.dense_GOI, matrix.narrowed_GOI, inputs.second_moment, strict=True)
    errors = [layer_error(dense, pruned, moment) for dense, pruned, moment in pairs]
    return sum(errors) / len(errors)


@proxy("output_error", reads="matrix")
def output_error(matrix: PrunedMatrix) -> float:
    """Relative squared error of each matrix's outputs, summed."""
    return relative_error(matrix, matrix.inputs)
