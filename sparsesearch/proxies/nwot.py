"""NASWOT: the diversity of samples' rectifier patterns."""

from __future__ import annotations

import torch

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.probing import active_units
from sparsesearch.proxies.proxy_inputs import LiveCandidate


@proxy("nwot", reads="network")
def nwot(live: LiveCandidate) -> float:
    """Minus log |det K|, K the number of rectifiers in the same state for two samples (Mellor et al., 2021).

    arXiv 2006.04647. For networks with ReLU; raises ValueError if none runs.
    """
    agree: torch.Tensor | float = 0.0
    for on_NU in active_units(live):
        on = on_NU.double()
        agree = agree + on @ on.T + (1 - on) @ (1 - on).T
    if not isinstance(agree, torch.Tensor):
        raise ValueError("no ReLU ran; nwot is for networks with rectifiers")
    return -float(torch.linalg.slogdet(agree).logabsdet)
