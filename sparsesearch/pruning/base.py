"""What a local pruner is, and which there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.errors import problem
from sparsesearch.pruning.cfsp import cfsp
from sparsesearch.pruning.checked import checked_structured, checked_unstructured
from sparsesearch.pruning.elements import by_element_score
from sparsesearch.pruning.flap import flap
from sparsesearch.pruning.gblm import gblm
from sparsesearch.pruning.layer import Structured, Unstructured
from sparsesearch.pruning.magnitude import element_magnitude, magnitude
from sparsesearch.pruning.maw import maw
from sparsesearch.pruning.minitron import minitron
from sparsesearch.pruning.obs import obs
from sparsesearch.pruning.prefix import prefix
from sparsesearch.pruning.random_ import element_random, random
from sparsesearch.pruning.score import by_score
from sparsesearch.pruning.sparsegpt import sparsegpt
from sparsesearch.pruning.taylor import element_taylor, taylor
from sparsesearch.pruning.wanda import wanda

UNSTRUCTURED: dict[str, Unstructured] = {
    "random": by_score(random),
    "magnitude": by_score(magnitude),
    "wanda": by_score(wanda),
    "gblm": by_score(gblm),
    "taylor": by_score(taylor),
    "sparsegpt": sparsegpt,
}
STRUCTURED: dict[str, Structured] = {
    "prefix": by_element_score(prefix),
    "random": by_element_score(element_random),
    "magnitude": by_element_score(element_magnitude),
    "maw": by_element_score(maw),
    "minitron": by_element_score(minitron),
    "flap": by_element_score(flap),
    "cfsp": by_element_score(cfsp),
    "taylor": by_element_score(element_taylor),
    "obs": obs,
}


def pruner(name: str, of: Literal["sparsity", "width"]) -> Callable[[Any], Any]:
    """Register a score of your own as a pruner.

    Args:
        of: `sparsity`: f(layer, options) gives a score of each weight (O, I), the highest stay, and `row` or `layer`,
            among which they are compared; `width`: f(group, options) gives a score of each element (E,).
    """

    def register(score: Any) -> Any:
        if of == "sparsity":
            UNSTRUCTURED[name] = by_score(score)
        else:
            STRUCTURED[name] = by_element_score(score)
        return score

    return register


# Names, in either registry, of those that raise InputError SS209 without gradients.
NEEDS_GRADIENTS = frozenset({"gblm", "taylor"})


def needs_gradients(pruners: PrunerConfig) -> bool:
    """Whether a configuration's pruners need gradients of the loss."""
    return bool(NEEDS_GRADIENTS & {pruners.sparsity, pruners.width})


def _named(name: str, pruners: dict[str, Callable[..., object]], key: str) -> None:
    if name not in pruners:
        raise problem(
            "SS102",
            f"{key} {name!r} not found.",
            got=name,
            allowed=pruners,
            fix="See: sparsesearch list pruners",
        )


def unstructured(name: str) -> Unstructured:
    """The unstructured pruner of that name, whose levels are checked; raises InputError SS102 or, from it, SS127."""
    _named(name, dict(UNSTRUCTURED), "pruners.sparsity")
    return checked_unstructured(f"pruners.sparsity {name!r}", UNSTRUCTURED[name])


def structured(name: str) -> Structured:
    """The structured pruner of that name, whose levels are checked; raises InputError SS102 or, from it, SS127."""
    _named(name, dict(STRUCTURED), "pruners.width")
    return checked_structured(f"pruners.width {name!r}", STRUCTURED[name])


def layer_error(weight_OI: torch.Tensor, pruned_OI: torch.Tensor, second_moment_II: torch.Tensor) -> float:
    """Relative squared output error tr(Δ H Δᵀ) / tr(W H Wᵀ) over the calibration tokens, >= 0."""
    change = weight_OI - pruned_OI
    dense = torch.sum((weight_OI @ second_moment_II) * weight_OI)
    return float(torch.sum((change @ second_moment_II) * change) / dense.clamp_min(1e-30))
