"""NASWOT: whether samples switch different rectifiers on."""

from __future__ import annotations

import torch

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.probing import rectified
from sparsesearch.proxies.proxy_inputs import Live


@proxy("nwot", reads="network")
def nwot(live: Live) -> float:
    """Minus log |det K|, K the rectifiers that two samples switch alike (Mellor et al., 2021, arXiv 2006.04647).

    For networks with ReLU; raises ValueError where none runs.
    """
    agree: torch.Tensor | float = 0.0
    for on_NU in rectified(live):
        on = on_NU.double()
        agree = agree + on @ on.T + (1 - on) @ (1 - on).T
    if not isinstance(agree, torch.Tensor):
        raise ValueError("no ReLU ran: nwot is for networks with rectifiers")
    return -float(torch.linalg.slogdet(agree).logabsdet)
