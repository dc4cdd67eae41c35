"""Output error with the errors of earlier blocks, in expectation over their levels."""

from __future__ import annotations

from sparsesearch.models.network import Network
from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.output_error import relative_error
from sparsesearch.proxies.proxy_inputs import PrunedMatrix


def refuses(network: Network) -> str:
    return "" if network.blockwise else "its blocks do not follow one another in a chain"


@proxy("accumulated_error", reads="matrix", needs=("expected",), refuses=refuses)
def accumulated_error(matrix: PrunedMatrix) -> float:
    """Relative squared output error, summed, with inputs that went through the mean of all levels of earlier blocks.

    Expected error accumulation as in Týr-the-Pruner (Li et al., NeurIPS 2025, arXiv 2503.09657): earlier blocks hold
    their mean weights over all levels, each weighted by the fraction that it keeps.
    """
    assert matrix.expected is not None
    return relative_error(matrix, matrix.expected)
