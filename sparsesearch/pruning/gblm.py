"""GBLM (Das et al., 2023, arXiv 2311.04902): Wanda's score with the loss gradient added to the input's norm."""

from __future__ import annotations

import torch

from sparsesearch.config import PrunerConfig
from sparsesearch.pruning.input_moments import norm
from sparsesearch.pruning.layer import Layer, require_gradient
from sparsesearch.pruning.score import Scope


def gblm(layer: Layer, options: PrunerConfig) -> tuple[torch.Tensor, Scope]:
    """GBLM: keep the highest |W_ij| (‖X_j‖₂ + α G_ij) of every row, values unchanged; needs gradients.

    ‖X_j‖ is a root mean square over tokens and G = sqrt(E[g²]) one over samples, so that their number does not matter.
    Raises InputError SS209 without gradients.
    """
    gradient_OI = require_gradient(layer.gradient_square_OI, "gblm").sqrt()
    return layer.weight_OI.abs() * (norm(layer.inputs) + options.alpha * gradient_OI), "row"
