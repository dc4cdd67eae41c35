"""Zero-shot proxies: scores of a genome without training, lower is better; `sparsesearch audit` measures them."""

from sparsesearch.proxies import (
    accumulated_error,
    block_influence,
    costs,
    fisher,
    grad_norm,
    grasp,
    jacob_cov,
    nwot,
    output_error,
    pq_index,
    snip,
    synflow,
    trace_nas,
    wanda,
)
from sparsesearch.proxies.base import PROXIES, Proxy, all_proxies, proxies_named, proxy
from sparsesearch.proxies.proxy_inputs import CostedGenome, LiveCandidate, PrunedMatrix

__all__ = [
    "PROXIES",
    "CostedGenome",
    "LiveCandidate",
    "Proxy",
    "PrunedMatrix",
    "accumulated_error",
    "all_proxies",
    "block_influence",
    "costs",
    "fisher",
    "grad_norm",
    "grasp",
    "jacob_cov",
    "nwot",
    "output_error",
    "pq_index",
    "proxies_named",
    "proxy",
    "snip",
    "synflow",
    "trace_nas",
    "wanda",
]
