"""What a local pruner is, and which there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.errors import InputError, did_you_mean
from sparsesearch.pruning.layer import Group, Layer
from sparsesearch.pruning.magnitude import magnitude
from sparsesearch.pruning.obs import obs
from sparsesearch.pruning.sparsegpt import sparsegpt
from sparsesearch.pruning.wanda import wanda

# (layer, weights kept at each level, options) -> weight_LOI with at most that many nonzeros each
Unstructured = Callable[[Layer, Sequence[int], PrunerConfig], torch.Tensor]
# (group, elements kept at each level, options)
#   -> elements in order of removal, and for each level the weights of the kept inputs of every reader
Structured = Callable[[Group, Sequence[int], PrunerConfig], tuple[torch.Tensor, list[list[torch.Tensor]]]]

UNSTRUCTURED: dict[str, Unstructured] = {"magnitude": magnitude, "wanda": wanda, "sparsegpt": sparsegpt}
STRUCTURED: dict[str, Structured] = {"obs": obs}


def _named(name: str, pruners: dict[str, Callable[..., object]], key: str) -> None:
    if name not in pruners:
        raise InputError(
            "SS102", f"{key} {name!r} not found. {did_you_mean(name, pruners)}Allowed: {', '.join(pruners)}.",
            "See: sparsesearch list pruners",
        )  # fmt: skip


def unstructured(name: str) -> Unstructured:
    """The unstructured pruner of that name; raises InputError SS102."""
    _named(name, dict(UNSTRUCTURED), "pruners.sparsity")
    return UNSTRUCTURED[name]


def structured(name: str) -> Structured:
    """The structured pruner of that name; raises InputError SS102."""
    _named(name, dict(STRUCTURED), "pruners.width")
    return STRUCTURED[name]


def layer_error(weight_OI: torch.Tensor, pruned_OI: torch.Tensor, second_moment_II: torch.Tensor) -> float:
    """Relative squared output error tr(Δ H Δᵀ) / tr(W H Wᵀ) over the calibration tokens, >= 0."""
    change = weight_OI - pruned_OI
    dense = torch.sum((weight_OI @ second_moment_II) * weight_OI)
    return float(torch.sum((change @ second_moment_II) * change) / dense.clamp_min(1e-30))
