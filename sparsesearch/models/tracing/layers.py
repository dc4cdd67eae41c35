"""The layers whose weights are matrices: linears, Conv1D of transformers, convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from sparsesearch.models.network import Attribute, Cut, Matrix, Slot

# Convolutions whose weights are matrices of unfolded patches.
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (nn.Linear, Conv1D, *CONVOLUTIONS)


def weighted_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """Return (path, module) of every layer whose weight is a matrix and a floating-point parameter."""
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, LAYERS)]
    return [(path, layer) for path, layer in layers if has_float_weight(layer)]


def has_float_weight(layer: Any) -> bool:
    """Return whether a layer's weight is a floating-point parameter, not computed from other parameters."""
    weight = layer._parameters.get("weight")
    return weight is not None and bool(weight.is_floating_point())


@contextmanager
def count_positions(model: nn.Module, samples: int = 1) -> Iterator[dict[str, int]]:
    """Count, while the model runs on `samples` samples, how often each weighted layer is applied to one sample.

    Yields the counts by path, in order of execution.
    """
    counts: dict[str, int] = {}
    hooks = []
    for path, layer in weighted_layers(model):

        def hook(layer: Any, _: Any, output: torch.Tensor, path: str = path) -> None:
            rows = layer.weight.shape[1 if isinstance(layer, Conv1D) else 0]
            counts[path] = counts.get(path, 0) + output.numel() // rows // samples

        hooks.append(layer.register_forward_hook(hook))
    try:
        yield counts
    finally:
        for handle in hooks:
            handle.remove()


def matrix_of(layer: Any, path: str, block: int, input_key: str, positions: int) -> Matrix:
    """Describe the weight of an nn.Linear, a Conv1D or a convolution; arguments as the attributes of `Matrix`."""
    layout: Literal["linear", "transposed", "conv"] = "linear"
    groups = 1
    if isinstance(layer, Conv1D):
        layout = "transposed"
    elif isinstance(layer, CONVOLUTIONS):
        layout, groups = "conv", layer.groups
    return Matrix(f"{path}.weight", tuple(layer.weight.shape), layout, groups, block, input_key, positions)


def kernel_cut(layer: Any, path: str, block: int) -> Cut | None:
    """Return the cut that removes rings of taps around the middle of a convolution's kernel, the outermost first.

    None if the kernel has no middle tap or fewer than two rings, or the padding does not keep the size.
    """
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode != "zeros" or not isinstance(layer.padding, tuple):
        return None
    side, other_side = layer.kernel_size
    rings = side // 2
    if side != other_side or side % 2 == 0 or rings < 2 or layer.padding != (rings, rings) or layer.dilation != (1, 1):
        return None
    index = np.array([[[rings - ring, rings + ring] for ring in range(1, rings + 1)]], dtype=np.int64)
    taps = tuple(Slot(f"{path}.weight", axis, index) for axis in (2, 3))
    return Cut("kernel", path, block, rings, taps, (), (Attribute(path, "padding", 1),))
