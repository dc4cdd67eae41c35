"""Telling whether a network is the one it was: by its weights, and by what it puts out for a few samples.

Weights alone do not say what a module of the user's own does with them: its code, its attributes and the buffers that
it does not save can change. Checkpoints are run by transformers' code and named by their files.
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
# Samples that networks are told apart by.
SAMPLES = 4
# Outputs that are hashed, and how far apart two have to be to be told apart, relative to the largest: far above what
# processors and libraries make of the same sum.
HASHED, STEP = 128, 1e-3
# Largest difference, relative to the largest output, within one network: in float32 on CPUs, and elsewhere.
SAME, SAME_ROUNDED = 1e-3, 0.1


def known_outputs(source: Source, task: Task, samples: Samples) -> Outputs | None:
    """What a module puts out for the first samples, float32 on one thread of the CPU; None for a checkpoint.

    Raises InputError SS230 where a module does not do the same twice, SS233 where its outputs are not finite.
    """
    if not isinstance(source, (ModuleSource, Factory)):
        return None
    model = source.load(torch.float32, "cpu")
    with torch_threads(1):
        first, again = (_outputs(model, task, samples) for _ in range(2))
    check_finite(model, first, "the first calibration samples")
    found = first.cpu().numpy()
    if not agree(again.cpu().numpy(), found, SAME):
        raise problem(
            "SS230",
            f"{type(model).__name__} puts out something else for the same samples each time it is called.",
            fix="Let eval() turn off what is random in it, such as dropout.",
        )
    return found


def identity(source: Source, known: Outputs | None) -> str:
    """What names a network wherever something is kept of it; weights alone are what stands before the hyphen."""
    return source.weights_hash if known is None else f"{source.weights_hash}-{_hash(known)}"


def weights_in(name: str) -> str:
    """The hash of the weights alone in what `identity` gave."""
    return name.partition("-")[0]


def check_same(model: Any, task: Task, samples: Samples, known: Outputs) -> None:
    """Raise InputError SS230 where the network of this process is not the one that `known` was put out by."""
    parameter = next(model.parameters())
    exact = parameter.dtype in (torch.float32, torch.float64) and parameter.device.type == "cpu"
    if not agree(_outputs(model, task, samples).cpu().numpy(), known, SAME if exact else SAME_ROUNDED):
        raise problem(
            "SS230",
            f"{type(model).__name__} is another network in a worker than where the search was started.",
            fix="A factory must build the same one in every process: give model.weights, or seed it in the function.",
        )


def agree(found: Outputs, known: Outputs, tolerance: float) -> bool:
    """Whether outputs are those of one network; NaN is no one's."""
    return found.shape == known.shape and bool(np.abs(found - known).max() <= tolerance * np.abs(known).max())


def _outputs(model: Any, task: Task, samples: Samples) -> torch.Tensor:
    return outputs_of(model, task, samples.rows(slice(0, SAMPLES)))


def _hash(known: Outputs) -> str:
    flat = known.flatten()[:: max(known.size // HASHED, 1)].astype(np.float64)
    # A power of two, since the largest output itself is rounded.
    scale = 2.0 ** np.frexp(np.abs(known).max())[1]
    steps = np.round(flat / (scale * STEP)).astype(np.int64)
    return hashlib.sha256(f"{known.shape} {scale}".encode() + steps.tobytes()).hexdigest()[:16]
