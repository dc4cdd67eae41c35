"""Recovery without gradients: biases and batch statistics compensate the change of mean outputs by pruning.

Bias correction (Nagel et al., 2019, arXiv 1906.04721, section 4.2), with measured instead of derived means, module
after module.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import nn

from sparsesearch.data.samples import Samples
from sparsesearch.models.network import Network

Means = dict[str, torch.Tensor]


def compensate(model: Any, dense: Any, network: Network, samples: Samples, batch: int) -> list[str]:
    """Shift biases until mean outputs on samples equal the dense network's; return the paths of corrected modules.

    Corrects modules that have a bias and keep all their outputs; each sees the effect of the corrections before it.
    """
    modules, dense_modules = dict(model.named_modules()), dict(dense.named_modules())
    corrected = [path for path in _paths(network) if _same_biases(modules.get(path), dense_modules.get(path))]
    input_keys = {name.rpartition(".")[0]: matrix.input_key for name, matrix in network.matrices.items()}
    dense_means = _mean_outputs(dense, network, corrected, samples, batch)
    # Modules that read one input do not depend on each other and are measured together.
    for _, group in groupby(corrected, key=input_keys.__getitem__):
        paths = list(group)
        means = _mean_outputs(model, network, paths, samples, batch)
        for path in paths:
            modules[path].bias.data += (dense_means[path] - means[path]).to(modules[path].bias)
    return corrected


def _paths(network: Network) -> list[str]:
    return [path for path, _, leaf in (name.rpartition(".") for name in network.matrices) if leaf == "weight"]


def _same_biases(module: Any, dense: Any) -> bool:
    """Return whether both modules have a bias, of the same shape."""
    bias, dense_bias = getattr(module, "bias", None), getattr(dense, "bias", None)
    return isinstance(bias, nn.Parameter) and isinstance(dense_bias, nn.Parameter) and bias.shape == dense_bias.shape


def _mean_outputs(model: Any, network: Network, paths: Sequence[str], samples: Samples, batch: int) -> Means:
    """Return the mean output of each module over samples and positions, (outputs,) float64, by path."""
    sums: Means = {}
    counts: dict[str, int] = {}

    def watch(path: str, module: nn.Module) -> Any:
        axis = 1 if isinstance(module, nn.modules.conv._ConvNd) else -1

        def hook(_: Any, __: Any, output: torch.Tensor) -> None:
            flat = output.detach().movedim(axis, -1).flatten(0, -2).double()
            sums[path] = sums.get(path, 0) + flat.sum(dim=0)
            counts[path] = counts.get(path, 0) + len(flat)

        return module.register_forward_hook(hook)

    handles = [watch(path, model.get_submodule(path)) for path in paths]
    try:
        with torch.no_grad():
            for start in range(0, len(samples), batch):
                network.task.call(model, samples.rows(slice(start, start + batch)).inputs(model))
    finally:
        for handle in handles:
            handle.remove()
    return {path: total / counts[path] for path, total in sums.items()}
