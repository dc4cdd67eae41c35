"""Gradients of the dense model's loss, for the pruners and allocations that weigh what a weight does to it.

One backward pass a sample: the mean square needs every sample's gradient by itself. Two float32 values a weight are in
memory while they are summed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from sparsesearch.calibration.samples import Samples
from sparsesearch.errors import InputError
from sparsesearch.models.network import Network
from sparsesearch.models.task import Task

MEAN, SQUARE = ":mean", ":square"


def collect_gradients(model: Any, network: Network, samples: Samples, path: Path) -> None:
    """Write mean and mean squared gradient of every matrix, over samples; does nothing where that exists."""
    if path.exists():
        return
    parameters = {name: model.get_parameter(name).requires_grad_(True) for name in network.matrices}
    sums = {
        f"{n}{kind}": torch.zeros_like(p, dtype=torch.float32) for n, p in parameters.items() for kind in (MEAN, SQUARE)
    }
    try:
        for index in range(len(samples)):
            sample = samples.rows(slice(index, index + 1))
            loss(network.task, network.task.call(model, sample.inputs(model)), sample).backward()  # type: ignore[no-untyped-call]
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    gradient = parameter.grad.float()
                    sums[f"{name}{MEAN}"] += gradient
                    sums[f"{name}{SQUARE}"] += gradient.square()
                parameter.grad = None
    finally:
        for parameter in parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file({name: (total / len(samples)).cpu() for name, total in sums.items()}, temporary)
    temporary.replace(path)


def check_loss(task: Task) -> None:
    """Raise InputError SS209 where a task has no loss of its own."""
    if task.name.endswith("embedding"):
        raise InputError(
            "SS209", "this pruner needs gradients of a loss, and a model without a head has none.",
            "Choose another; see: sparsesearch list pruners",
        )  # fmt: skip


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


def load_gradients(path: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(mean, mean square) by the name of the matrix."""
    found = load_file(path)
    names = [name.removesuffix(MEAN) for name in found if name.endswith(MEAN)]
    return {name: (found[f"{name}{MEAN}"], found[f"{name}{SQUARE}"]) for name in names}
