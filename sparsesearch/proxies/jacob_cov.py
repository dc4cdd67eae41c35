"""Covariance of samples' input Jacobians."""

from __future__ import annotations

import torch

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.probing import input_gradients
from sparsesearch.proxies.proxy_inputs import LiveCandidate

# k of the score.
EPSILON = 1e-5


@proxy("jacob_cov", reads="network")
def jacob_cov(live: LiveCandidate) -> float:
    """Σ log(v + k) + 1 / (v + k) of the eigenvalues v of the correlations of samples' input Jacobians, k = 1e-5.

    Mellor et al., 2020 (arXiv 2006.04647v1), with the opposite sign: 1 a sample for uncorrelated Jacobians, more for
    correlated ones.
    """
    jacobians = input_gradients(live)
    values = torch.linalg.eigvalsh(torch.corrcoef(jacobians.double())).clamp_min(0) + EPSILON
    return float((values.log() + 1 / values).sum())
