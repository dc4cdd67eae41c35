"""Which methods there are, by the name that a searcher gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparsesearch.bilevel.base import Learner
from sparsesearch.bilevel.bip import BiP
from sparsesearch.bilevel.gates import Gates
from sparsesearch.bilevel.half_space import HalfSpace
from sparsesearch.bilevel.patterns import Patterns
from sparsesearch.bilevel.pdp import PDP
from sparsesearch.bilevel.rates import Rates
from sparsesearch.bilevel.scales import Scales
from sparsesearch.bilevel.thresholds import Thresholds
from sparsesearch.bilevel.widths import Widths

LEARNERS: dict[str, Callable[..., Learner]] = {
    "bip": BiP,
    "gates": Gates,
    "tas": Widths,
    "besa": Rates,
    "maskllm": Patterns,
    "pdp": PDP,
    "lapp": Thresholds,
    "oto": HalfSpace,
    "slimming": Scales,
}


def learner(method: str, *args: Any, pattern: str | None = None) -> Learner:
    """A learner by name.

    Args:
        args: of `Learner`.
        pattern: N:M, for methods that choose among patterns.
    """
    return LEARNERS[method](*args, pattern) if method == "maskllm" else LEARNERS[method](*args)
