"""Layers and groups that the pruners' tests share."""

from __future__ import annotations

import torch

from sparsesearch.calibration import InputStatistics
from sparsesearch.config import PrunerConfig
from sparsesearch.pruning import Group, Layer, Reader, Writer

DAMP = 0.01
OPTIONS = PrunerConfig(damp=DAMP)
O, I = 12, 160  # more inputs than SparseGPT's column block


def layer(seed: int = 0, outputs: int = O, inputs: int = I, tokens: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights, and E[x xᵀ] of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(inputs, inputs, generator=generator) / inputs**0.5 + torch.eye(inputs)
    x = torch.randn(tokens, inputs, generator=generator) @ mixing
    return torch.randn(outputs, inputs, generator=generator), x.T @ x / tokens


def gradients(shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and mean square of five samples' loss gradients, drawn by the shape alone."""
    samples = torch.randn(5, *shape, generator=torch.Generator().manual_seed(len(shape)))
    return samples.mean(dim=0), samples.square().mean(dim=0)


def made(weight: torch.Tensor, moment: torch.Tensor) -> Layer:
    """With inputs of mean zero, and gradients."""
    gradient, square = gradients(weight.shape)
    inputs = InputStatistics(moment, torch.zeros(len(moment), dtype=moment.dtype), moment.diagonal())
    return Layer(weight, inputs, square, gradient)


def sampled(x_NI: torch.Tensor, weight_OI: torch.Tensor) -> Layer:
    """A matrix with the statistics of given inputs, each a sequence of its own; no gradients."""
    square = x_NI.square().mean(dim=0)
    return Layer(weight_OI, InputStatistics(x_NI.T @ x_NI / len(x_NI), x_NI.mean(dim=0), square))


def writer(weight: torch.Tensor) -> Writer:
    """With gradients."""
    return Writer(weight, *gradients(weight.shape))


def group(weight: torch.Tensor, moment: torch.Tensor, span: int) -> Group:
    """Elements of adjacent inputs, with one reader, and two writers of different spans."""
    index = torch.arange(len(moment)).view(-1, span)
    generator = torch.Generator().manual_seed(5)
    rows = [torch.randn(len(index), rows, 7, generator=generator) for rows in (span, 2 * span)]
    return Group((Reader(made(weight, moment), index),), tuple(map(writer, rows)))
