"""Layers and groups that the pruners' tests share."""

from __future__ import annotations

import torch

from sparsesearch.calibration import InputStatistics
from sparsesearch.pruning import Layer, Writer
from sparsesearch.testing.pruners import INPUTS as I
from sparsesearch.testing.pruners import OPTIONS, gradients_of_shape
from sparsesearch.testing.pruners import OUTPUTS as O
from sparsesearch.testing.pruners import group_of as group
from sparsesearch.testing.pruners import layer_of as made
from sparsesearch.testing.pruners import weights_and_moment as layer

__all__ = ["DAMP", "OPTIONS", "I", "O", "group", "layer", "made", "sampled", "writer"]
DAMP = OPTIONS.damp


def sampled(x_NI: torch.Tensor, weight_OI: torch.Tensor) -> Layer:
    """A matrix with the statistics of given inputs, each a sequence of its own; no gradients."""
    square = x_NI.square().mean(dim=0)
    return Layer(weight_OI, InputStatistics(x_NI.T @ x_NI / len(x_NI), x_NI.mean(dim=0), square))


def writer(weight: torch.Tensor) -> Writer:
    """With gradients."""
    return Writer(weight, *gradients_of_shape(weight.shape))
