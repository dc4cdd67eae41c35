"""Local pruners by name: `pruner` registers one, `unstructured` and `structured` look one up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.cfsp import cfsp
from sparsesearch.pruning.checked import wrap_structured, wrap_unstructured
from sparsesearch.pruning.elements import by_element_score
from sparsesearch.pruning.flap import flap
from sparsesearch.pruning.gblm import gblm
from sparsesearch.pruning.layer import Layer, Levels, Structured, Unstructured
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
from sparsesearch.registry import Registry

Prune = TypeVar("Prune", Unstructured, Structured)


@dataclass(frozen=True)
class Pruner(Generic[Prune]):
    """A registered pruner.

    Attributes:
        prune: gives the levels of a layer (`Unstructured`) or of a group (`Structured`).
        needs_gradients: whether it reads gradients of the loss, which are gathered for it then.
    """

    prune: Prune
    needs_gradients: bool = False


UNSTRUCTURED: Registry[Pruner[Unstructured]] = Registry(
    "pruner of weights",
    {
        "random": Pruner(by_score(random)),
        "magnitude": Pruner(by_score(magnitude)),
        "wanda": Pruner(by_score(wanda)),
        "gblm": Pruner(by_score(gblm), needs_gradients=True),
        "taylor": Pruner(by_score(taylor), needs_gradients=True),
        "sparsegpt": Pruner(sparsegpt),
    },
    listed="pruners",
)
STRUCTURED: Registry[Pruner[Structured]] = Registry(
    "pruner of elements",
    {
        "prefix": Pruner(by_element_score(prefix)),
        "random": Pruner(by_element_score(element_random)),
        "magnitude": Pruner(by_element_score(element_magnitude)),
        "maw": Pruner(by_element_score(maw)),
        "minitron": Pruner(by_element_score(minitron)),
        "flap": Pruner(by_element_score(flap)),
        "cfsp": Pruner(by_element_score(cfsp)),
        "taylor": Pruner(by_element_score(element_taylor), needs_gradients=True),
        "obs": Pruner(obs),
    },
    listed="pruners",
)


def pruner(
    name: str, of: Literal["sparsity", "width"], needs_gradients: bool = False, scores: bool = True
) -> Callable[[Any], Any]:
    """Register a function of your own as a pruner.

    Args:
        of: `sparsity`: f(layer, options) gives a score of each weight (O, I), the highest stay, and `row` or `layer`,
            among which they are compared; `width`: f(group, options) gives a score of each element (E,).
        needs_gradients: whether it reads gradients of the loss.
        scores: whether the function gives scores; if not, it is the pruner itself, as `Unstructured` or `Structured`
            in `sparsesearch.pruning.layer` describe it.
    """
    registry: Registry[Any] = UNSTRUCTURED if of == "sparsity" else STRUCTURED
    by_scores: Callable[[Any], Any] = by_score if of == "sparsity" else by_element_score
    return registry.register(name, lambda f: Pruner(by_scores(f) if scores else f, needs_gradients))


def needs_gradients(pruners: PrunerConfig) -> bool:
    """Return whether a configuration's pruners need gradients of the loss; raises InputError SS102."""
    return _unstructured(pruners.sparsity).needs_gradients or _structured(pruners.width).needs_gradients


def unstructured(name: str) -> Callable[[Layer, Sequence[int], PrunerConfig], Levels]:
    """Return the pruner of weights of a name, whose levels are checked; raises InputError SS102 or, from it, SS127."""
    return wrap_unstructured(f"pruners.sparsity {name!r}", _unstructured(name).prune)


def structured(name: str) -> Structured:
    """Return the pruner of elements of a name, whose levels are checked; raises InputError SS102 or, from it, SS127."""
    return wrap_structured(f"pruners.width {name!r}", _structured(name).prune)


def _unstructured(name: str) -> Pruner[Unstructured]:
    return UNSTRUCTURED.find(name, key="pruners.sparsity")


def _structured(name: str) -> Pruner[Structured]:
    return STRUCTURED.find(name, key="pruners.width")


def layer_errors(layer: Layer, levels: Levels) -> torch.Tensor:
    """Relative squared output errors tr(Δ H Δᵀ) / tr(W H Wᵀ) of all levels over the calibration tokens, (L,), >= 0."""
    weight, moment = layer.weight_OI, layer.inputs.second_moment
    errors = levels.errors
    if errors is None:
        change = (weight - levels.weights).flatten(0, 1)
        errors = ((change @ moment) * change).view(levels.weights.shape).sum(dim=(1, 2))
    return errors / torch.sum((weight @ moment) * weight).clamp_min(1e-30)


def layer_error(weight_OI: torch.Tensor, pruned_OI: torch.Tensor, second_moment_II: torch.Tensor) -> float:
    """Relative squared output error tr(Δ H Δᵀ) / tr(W H Wᵀ) over the calibration tokens, >= 0."""
    change = weight_OI - pruned_OI
    dense = torch.sum((weight_OI @ second_moment_II) * weight_OI)
    return float(torch.sum((change @ second_moment_II) * change) / dense.clamp_min(1e-30))
