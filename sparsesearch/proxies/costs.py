"""Controls: a candidate's size, and random numbers. A proxy that ranks no better than these is of no use."""

from __future__ import annotations

import zlib

import numpy as np

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import CostedGenome


@proxy("params", reads="costs")
def params(candidate: CostedGenome) -> float:
    """Control: minus the parameters."""
    return -float(candidate.costs["params"])


@proxy("macs", reads="costs")
def macs(candidate: CostedGenome) -> float:
    """Control: minus the multiply-accumulates."""
    return -float(candidate.costs["macs"])


@proxy("nonzeros", reads="costs")
def nonzeros(candidate: CostedGenome) -> float:
    """Control: minus the number of nonzero weights."""
    return -float(candidate.costs["nonzeros"])


@proxy("random", reads="costs")
def random(candidate: CostedGenome) -> float:
    """Control: a random number, the same for the same genome."""
    return float(np.random.default_rng(zlib.crc32(candidate.genome.data)).random())
