"""The identity of a network: a hash of its weights, and for a module of the user's also of its outputs.

Weights alone do not identify a module of the user's: its code, its attributes and the buffers that it does not save can
change. Checkpoints are run by transformers' code and identified by their files.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sparsesearch.data import Samples
from sparsesearch.engine.launch.soundness import check_finite
from sparsesearch.errors import problem
from sparsesearch.evaluation import outputs_of
from sparsesearch.models.source import Factory, ModuleSource, Source
from sparsesearch.models.task import Task
from sparsesearch.process_state import torch_threads

Outputs = npt.NDArray[np.float32]
# Number of samples whose outputs identify a network.
IDENTITY_SAMPLES = 4
# Number of outputs that are hashed, and the rounding step, relative to the largest output: far above the rounding
# differences between processors and libraries.
HASHED_OUTPUTS, ROUNDING_STEP = 128, 1e-3
# Largest difference, relative to the largest output, within one network: in float32 on CPUs, and elsewhere.
TOLERANCE, ROUNDED_TOLERANCE = 1e-3, 0.1


def module_outputs(source: Source, task: Task, samples: Samples) -> Outputs | None:
    """Return outputs of a module for the first samples, float32 on one thread of the CPU; None for a checkpoint.

    Returns:
        Outputs, as `outputs_of` shapes them, for at most `IDENTITY_SAMPLES` samples.

    Raises InputError SS230 if two calls of a module differ, SS233 if its outputs are not finite.
    """
    if not isinstance(source, (ModuleSource, Factory)):
        return None
    model = source.load(torch.float32, "cpu")
    with torch_threads(1):
        first, again = (_outputs(model, task, samples) for _ in range(2))
    check_finite(model, first, "the first calibration samples")
    outputs = first.cpu().numpy()
    if not agree(again.cpu().numpy(), outputs, TOLERANCE):
        raise problem(
            "SS230",
            f"{type(model).__name__} returns other outputs for the same samples each time it is called.",
            fix="Make eval() turn off everything random in it, such as dropout.",
        )
    return outputs


def identity(source: Source, known: Outputs | None) -> str:
    """Return the identity of a network in caches and runs: the hash of its weights, or `WEIGHTS-OUTPUTS`."""
    return source.weights_hash if known is None else f"{source.weights_hash}-{_hash(known)}"


def weights_in(name: str) -> str:
    """Return the hash of the weights alone from an `identity`."""
    return name.partition("-")[0]


def check_same(model: Any, task: Task, samples: Samples, known: Outputs) -> None:
    """Raise InputError SS230 if the network of this process does not reproduce outputs.

    Args:
        known: outputs of the network that the search was started with, as `module_outputs` returns them.
    """
    parameter = next(model.parameters())
    exact = parameter.dtype in (torch.float32, torch.float64) and parameter.device.type == "cpu"
    if not agree(_outputs(model, task, samples).cpu().numpy(), known, TOLERANCE if exact else ROUNDED_TOLERANCE):
        raise problem(
            "SS230",
            f"{type(model).__name__} has other outputs in a worker than in the process that started the search.",
            fix="A factory must build the same one in every process: give model.weights, or seed it in the function.",
        )


def agree(outputs: Outputs, known: Outputs, tolerance: float) -> bool:
    """Return whether outputs are those of one network: equal shapes, differences within the tolerance, no NaN.

    Args:
        tolerance: largest difference, relative to the largest of `known`.
    """
    return outputs.shape == known.shape and bool(np.abs(outputs - known).max() <= tolerance * np.abs(known).max())


def _outputs(model: Any, task: Task, samples: Samples) -> torch.Tensor:
    return outputs_of(model, task, samples.rows(slice(0, IDENTITY_SAMPLES)))


def _hash(known: Outputs) -> str:
    flat = known.flatten()[:: max(known.size // HASHED_OUTPUTS, 1)].astype(np.float64)
    # A power of two, since the largest output itself is rounded.
    scale = 2.0 ** np.frexp(np.abs(known).max())[1]
    steps = np.round(flat / (scale * ROUNDING_STEP)).astype(np.int64)
    return hashlib.sha256(f"{known.shape} {scale}".encode() + steps.tobytes()).hexdigest()[:16]
