"""Gradients of the model's loss, for the pruners, allocations and proxies that weigh what a weight does to it.

One backward pass a sample: the mean square needs every sample's gradient by itself. Two float32 values a weight are in
memory while they are summed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sparsesearch.calibration.statistics import RECOLLECT
from sparsesearch.data.samples import Samples
from sparsesearch.errors import problem
from sparsesearch.models.network import Network
from sparsesearch.models.task import Task
from sparsesearch.tensors import is_intact, read_tensors, write_tensors

MEAN, SQUARE = ":mean", ":square"
# By name.
Parameters = dict[str, torch.nn.Parameter]
Gradients = dict[str, torch.Tensor]


def collect_gradients(model: Any, network: Network, samples: Samples, path: Path) -> None:
    """Write mean and mean squared gradient of every matrix, over samples; does nothing if that is there and whole."""
    if is_intact(path):
        return
    parameters = {name: model.get_parameter(name) for name in network.matrices}
    sums = {
        f"{n}{kind}": torch.zeros_like(p, dtype=torch.float32) for n, p in parameters.items() for kind in (MEAN, SQUARE)
    }
    for gradients in sample_gradients(model, network.task, samples, parameters):
        for name, gradient in gradients.items():
            sums[f"{name}{MEAN}"] += gradient
            sums[f"{name}{SQUARE}"] += gradient.square()
    write_tensors(path, {name: (total / len(samples)).cpu() for name, total in sums.items()})


def collect_curvature(model: Any, network: Network, samples: Samples, gradients: Path, path: Path) -> None:
    """Write the Hessian of the mean loss times the mean gradient, of every matrix; does nothing where that exists.

    Args:
        gradients: file of `collect_gradients`, on these samples or more.
    """
    if is_intact(path):
        return
    parameters = {name: model.get_parameter(name) for name in network.matrices}
    means = {name: mean.to(parameters[name]) for name, (mean, _) in load_gradients(gradients).items()}
    sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}
    # Fused attention has no second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        for product in sample_gradients(model, network.task, samples, parameters, along=means):
            for name, value in product.items():
                sums[name] += value
    write_tensors(path, {name: (total / len(samples)).cpu() for name, total in sums.items()})


def mean_gradients(model: Any, task: Task, samples: Samples, parameters: Parameters) -> Gradients:
    """Gradients of the mean loss over samples, float32; only of parameters that the loss depends on."""
    total: Gradients = {}
    for gradients in sample_gradients(model, task, samples, parameters):
        for name, gradient in gradients.items():
            total[name] = total[name] + gradient if name in total else gradient
    return {name: gradient / len(samples) for name, gradient in total.items()}


def sample_gradients(
    model: Any, task: Task, samples: Samples, parameters: Parameters, along: Gradients | None = None
) -> Iterator[Gradients]:
    """Each sample's gradient of the loss, float32; left out where the loss does not depend on a parameter.

    Args:
        along: a direction; instead of gradients each sample's Hessian times it.
    """
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    try:
        for index in range(len(samples)):
            sample = samples.rows(slice(index, index + 1))
            value = loss(task, task.call(model, sample.inputs(model)), sample)
            own = list(parameters.values())
            if along is not None:
                first = torch.autograd.grad(value, own, create_graph=True, allow_unused=True)
                pairs = zip(parameters, first, strict=True)
                value = torch.stack([(g * along[name]).sum() for name, g in pairs if g is not None]).sum()
            found = torch.autograd.grad(value, own, allow_unused=True)
            yield {name: g.float() for name, g in zip(parameters, found, strict=True) if g is not None}
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(False)


def check_loss(network: Network) -> None:
    """Raise InputError SS209 where a network has no loss of its own: there is no distribution to take one of."""
    if not network.distribution:
        what = "a model without a head" if network.task.embeds else "a head whose outputs are no distribution"
        raise problem(
            "SS209",
            f"this needs a loss or its gradients, and {what} has none.",
            fix="Choose another pruner (see: sparsesearch list pruners), or distil alone with training.distill: 1.",
        )


def loss(task: Task, outputs: torch.Tensor, samples: Samples) -> torch.Tensor:
    """Cross-entropy of what should come out: the next token, the token itself, the label or, without labels, the
    class that the model itself prefers.

    Args:
        outputs: logits (samples, positions, values).
    """
    if task.name == "causal":
        logits, targets = outputs[:, :-1], _tokens(samples, "input_ids")[:, 1:]
    elif task.name == "seq2seq":
        logits, targets = outputs[:, :-1], _tokens(samples, "decoder_input_ids")[:, 1:]
    elif task.name == "masked":
        logits, targets = outputs, _tokens(samples, "input_ids")
    elif samples.labels is not None:
        logits, targets = outputs.mean(dim=1), torch.from_numpy(samples.labels.astype("int64"))
    else:
        logits, targets = outputs.mean(dim=1), outputs.mean(dim=1).argmax(dim=-1)
    return torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.to(logits.device).flatten())


def _tokens(samples: Samples, name: str) -> torch.Tensor:
    return torch.from_numpy(samples.arrays[name].astype("int64"))


def load_curvature(path: Path) -> Gradients:
    """What `collect_curvature` wrote, by the name of the matrix."""
    return read_tensors(path, RECOLLECT)


def load_gradients(path: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(mean, mean square) by the name of the matrix."""
    found = read_tensors(path, RECOLLECT)
    names = [name.removesuffix(MEAN) for name in found if name.endswith(MEAN)]
    return {name: (found[f"{name}{MEAN}"], found[f"{name}{SQUARE}"]) for name in names}
