"""SynFlow: the strength of the paths through the network, without data."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from sparsesearch.models.network import Network
from sparsesearch.proxies.base import proxy
from sparsesearch.proxies.proxy_inputs import LiveCandidate


def refuses(network: Network) -> str:
    if network.task.name != "module":
        return "synflow is for convolutional networks and MLPs: softmax and layer norms undo all scales"
    return ""


def saliencies(live: LiveCandidate) -> dict[str, torch.Tensor]:
    """Return |w| ∂R/∂|w| of every matrix, float64, of its shape.

    R is the sum of the outputs with weights |w| for a sample whose inputs are all one.
    """
    model = copy.deepcopy(live.model).double()
    for module in [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]:
        setattr(module, "forward", lambda x: x)  # noqa: B010 - mypy knows forward as a method
    for parameter in model.parameters():
        parameter.data.abs_()
        parameter.requires_grad_(True)
    ones = [torch.ones_like(x[:1], dtype=torch.float64) for x in live.samples.rows(slice(0, 1)).inputs(model).values()]
    model(*ones).sum().backward()
    parameters = dict(model.named_parameters())
    return {
        name: parameters[name].data * parameters[name].grad
        for name in live.matrices
        if parameters[name].grad is not None
    }


@proxy("synflow", reads="network", refuses=refuses)
def synflow(live: LiveCandidate) -> float:
    """Minus log Σ |w| ∂R/∂|w|, without data and batch normalisation (Tanaka et al., 2020, arXiv 2006.05467)."""
    total = sum(float(saliency.sum()) for saliency in saliencies(live).values())
    return -math.log(total) if total > 0 else math.inf
