"""Gradients of the model's loss, for pruners, allocations and proxies.

One backward pass a sample, since the mean square needs the gradient of each. Two float32 values a weight are in memory
while gradients are summed.
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
# By name of the parameter; gradients have its shape.
Parameters = dict[str, torch.nn.Parameter]
Gradients = dict[str, torch.Tensor]


def collect_gradients(model: Any, network: Network, samples: Samples, path: Path) -> None:
    """Write mean and mean squared gradient of every matrix over samples; does nothing if the file is intact."""
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
    """Write the Hessian of the mean loss times the mean gradient of every matrix; does nothing if the file is intact.

    Args:
        gradients: file of `collect_gradients`, on these samples or more.
        path: file to write.
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
    """Return gradients of the mean loss over samples, float32; only of parameters that the loss depends on."""
    total: Gradients = {}
    for gradients in sample_gradients(model, task, samples, parameters):
        for name, gradient in gradients.items():
            total[name] = total[name] + gradient if name in total else gradient
    return {name: gradient / len(samples) for name, gradient in total.items()}


def sample_gradients(
    model: Any, task: Task, samples: Samples, parameters: Parameters, along: Gradients | None = None
) -> Iterator[Gradients]:
    """Yield each sample's gradients of the loss, float32, without parameters that the loss does not depend on.

    Args:
        along: a direction by name; if given, the Hessian times it is yielded instead of gradients.
    """
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    try:
        for index in range(len(samples)):
            sample = samples.rows(slice(index, index + 1))
            value = loss(task, task.call(model, sample.inputs(model)), sample)
            tensors = list(parameters.values())
            if along is not None:
                first = torch.autograd.grad(value, tensors, create_graph=True, allow_unused=True)
                pairs = zip(parameters, first, strict=True)
                value = torch.stack([(g * along[name]).sum() for name, g in pairs if g is not None]).sum()
            gradients = torch.autograd.grad(value, tensors, allow_unused=True)
            yield {name: g.float() for name, g in zip(parameters, gradients, strict=True) if g is not None}
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(False)


def check_loss(network: Network) -> None:
    """Raise InputError SS209 if a network has no loss, because its outputs are not a distribution."""
    if not network.distribution:
        what = "a model without a head" if network.task.embeds else "a head whose outputs are not a distribution"
        raise problem(
            "SS209",
            f"this needs a loss or its gradients, and {what} has none.",
            fix="Choose another pruner (see: sparsesearch list pruners), or distil alone with training.distill: 1.",
        )


def loss(task: Task, outputs: torch.Tensor, samples: Samples) -> torch.Tensor:
    """Return the mean cross-entropy with the task's target, a scalar.

    The target is the next token (causal, seq2seq), the input token (masked), or the label; without labels, the most
    probable class.

    Args:
        outputs: logits (samples, positions, values).
        samples: the samples of these outputs.
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
    """Return the products written by `collect_curvature`, by name of the matrix, of its shape."""
    return read_tensors(path, RECOLLECT)


def load_gradients(path: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the gradient's mean and mean square by name of the matrix, of its shape; raises DamagedFile SS601."""
    tensors = read_tensors(path, RECOLLECT)
    names = [name.removesuffix(MEAN) for name in tensors if name.endswith(MEAN)]
    return {name: (tensors[f"{name}{MEAN}"], tensors[f"{name}{SQUARE}"]) for name in names}
