"""Controls: what a candidate's size alone says, and chance. A proxy that does no better has found nothing else."""

from __future__ import annotations

import zlib

import numpy as np

from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import Costed


@proxy("params", reads="costs")
def params(candidate: Costed) -> float:
    """Control: minus the parameters."""
    return -float(candidate.costs["params"])


@proxy("macs", reads="costs")
def macs(candidate: Costed) -> float:
    """Control: minus the multiply-accumulates."""
    return -float(candidate.costs["macs"])


@proxy("nonzeros", reads="costs")
def nonzeros(candidate: Costed) -> float:
    """Control: minus the weights that are not zero."""
    return -float(candidate.costs["nonzeros"])


@proxy("random", reads="costs")
def random(candidate: Costed) -> float:
    """Control: chance, the same for the same genome."""
    return float(np.random.default_rng(zlib.crc32(candidate.genome.data)).random())
