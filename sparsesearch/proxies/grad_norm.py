"""Gradient norm of the candidate."""

from __future__ import annotations

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import Live


@proxy("grad_norm", reads="network", supervised=True)
def grad_norm(live: Live) -> float:
    """Σ over matrices of |∂L/∂W|₂ of the candidate: a pruned network that was trained should be near its optimum.

    For networks that are not trained, large norms are the good ones (Abdelfattah et al., 2021).
    """
    return sum(float(gradient.norm()) for gradient in live.gradients().values())
