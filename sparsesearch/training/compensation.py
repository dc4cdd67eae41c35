"""Recovery without gradients: biases and batch statistics make up for what pruning took from mean outputs.

Bias correction (Nagel et al., 2019, arXiv 1906.04721, section 4.2), measured instead of derived, one after another.
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
    """Shift biases until mean outputs on samples are the dense network's; paths of the modules it could do that for.

    These are the modules with a bias whose outputs are all kept. Later ones see what earlier ones have become.
    """
    own, theirs = dict(model.named_modules()), dict(dense.named_modules())
    found = [path for path in _paths(network) if _fits(own.get(path), theirs.get(path))]
    reads = {name.rpartition(".")[0]: matrix.reads for name, matrix in network.matrices.items()}
    wanted = _mean_outputs(dense, network, found, samples, batch)
    # What reads one input does not depend on one another.
    for _, together in groupby(found, key=reads.__getitem__):
        paths = list(together)
        means = _mean_outputs(model, network, paths, samples, batch)
        for path in paths:
            own[path].bias.data += (wanted[path] - means[path]).to(own[path].bias)
    return found


def _paths(network: Network) -> list[str]:
    return [path for path, _, leaf in (name.rpartition(".") for name in network.matrices) if leaf == "weight"]


def _fits(module: Any, dense: Any) -> bool:
    own, theirs = getattr(module, "bias", None), getattr(dense, "bias", None)
    return isinstance(own, nn.Parameter) and isinstance(theirs, nn.Parameter) and own.shape == theirs.shape


def _mean_outputs(model: Any, network: Network, paths: Sequence[str], samples: Samples, batch: int) -> Means:
    """Of modules by path, over samples and positions, (outputs,) float64."""
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
