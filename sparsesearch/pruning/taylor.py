"""Taylor criteria: the loss change of setting a weight to zero (Molchanov et al., 2019; LLM-Pruner, 2023).

First order |w E[g]|; second order w² E[g²], with the diagonal of the empirical Fisher matrix for the Hessian. An
element's score sums those of its weights, each taken as a magnitude, so that opposite signs do not cancel.
"""

from __future__ import annotations

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.layer import Group, Layer, require_gradient
from sparsesearch.pruning.score import Scope


def taylor(layer: Layer, options: PrunerConfig) -> tuple[torch.Tensor, Scope]:
    """Taylor: keep the highest |w g| (order 1) or w² g² (order 2) of the matrix, values unchanged; needs gradients.

    Raises InputError SS209 without gradients.
    """
    return _change(layer.weight_OI, layer.gradient_OI, layer.gradient_square_OI, options.order), "layer"


def element_taylor(group: Group, options: PrunerConfig) -> torch.Tensor:
    """Taylor: remove elements by the sum over all their weights of |w g| (order 1) or w² g² (2); needs gradients.

    Raises InputError SS209 without gradients.
    """
    changes = [reader.by_element(taylor(reader.layer, options)[0].sum(dim=0)) for reader in group.readers]
    changes += [
        _change(writer.weight, writer.gradient, writer.gradient_square, options.order).sum(dim=(1, 2))
        for writer in group.writers
    ]
    return torch.stack(changes).sum(dim=0)


def _change(
    weight: torch.Tensor, gradient: torch.Tensor | None, gradient_square: torch.Tensor | None, order: int
) -> torch.Tensor:
    if order == 1:
        return (weight * require_gradient(gradient, "taylor")).abs()
    return weight.square() * require_gradient(gradient_square, "taylor")
