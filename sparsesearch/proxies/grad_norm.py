"""Gradient norm of the candidate."""

from __future__ import annotations

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import LiveCandidate


@proxy("grad_norm", reads="network", supervised=True)
def grad_norm(live: LiveCandidate) -> float:
    """Σ over matrices of |∂L/∂W|₂ of the candidate: the norm is small near the optimum of a trained network.

    For untrained networks, higher norms are better (Abdelfattah et al., 2021).
    """
    return sum(float(gradient.norm()) for gradient in live.gradients().values())
