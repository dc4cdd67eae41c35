"""The methods, by the name that a searcher gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparsesearch.bilevel.base import Learner
from sparsesearch.bilevel.methods.besa import Rates
from sparsesearch.bilevel.methods.bip import BiP
from sparsesearch.bilevel.methods.gates import Gates
from sparsesearch.bilevel.methods.lapp import Thresholds
from sparsesearch.bilevel.methods.maskllm import Patterns
from sparsesearch.bilevel.methods.oto import HalfSpace
from sparsesearch.bilevel.methods.pdp import PDP
from sparsesearch.bilevel.methods.slimming import Scales
from sparsesearch.bilevel.methods.tas import Widths

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


def create_learner(method: str, *args: Any, pattern: str | None = None) -> Learner:
    """Create the learner of a method.

    Args:
        args: arguments of `Learner`.
        pattern: N:M, for methods that choose among patterns.
    """
    return LEARNERS[method](*args, pattern) if method == "maskllm" else LEARNERS[method](*args)
