"""Checks on a few samples, before anything is built, that a network is finite and its quality reacts to damage."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sparsesearch.data import Samples
from sparsesearch.errors import SparseSearchError, first_line, problem
from sparsesearch.evaluation import outputs_of, quality_class
from sparsesearch.evaluation.evaluator import UserQuality, losses_on
from sparsesearch.models.network import Network

# Damaged networks that a quality is tried on; each has other matrices changed.
DAMAGED_NETWORKS = 4


def check_network(model: Any, network: Network, samples: Samples) -> None:
    """Raise InputError SS233 if matrices, or outputs for samples, hold values that are not finite."""
    for name in network.matrices:
        if not bool(torch.isfinite(model.get_parameter(name)).all()):
            raise _not_finite(f"weight {name} holds")
    check_finite(model, outputs_of(model, network.task, samples), "calibration samples")


def check_finite(model: Any, outputs: torch.Tensor, data: str) -> None:
    """Raise InputError SS233 if dense outputs are not finite, naming a parameter that may be the reason.

    Args:
        data: the samples in words, for the message.
    """
    if bool(torch.isfinite(outputs).all()):
        return
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise _not_finite(f"weight {name} holds")
    raise _not_finite(f"outputs of the dense network on {data} hold")


def _not_finite(subject: str) -> SparseSearchError:
    return problem("SS233", f"{subject} values that are not finite (NaN or infinite).", fix="Repair the model first.")


def check_quality_sees_damage(
    model: Any, network: Network, samples: Samples, quality: str, function: UserQuality | None, batch: int
) -> None:
    """Check that a quality differs between the dense network and clearly damaged ones.

    Args:
        samples: selection data; all of them are used only if the first `batch` show no difference.
        function: the user's own quality, if there is one.

    Raises InputError SS234 if the quality never differs, SS235 if the user's function fails on the dense network.
    """
    for subset in (samples.rows(slice(0, batch)), samples)[: 1 + (len(samples) > batch)]:
        with tempfile.TemporaryDirectory() as directory:
            targets = quality_class(quality).create(Path(directory), subset, network.output_shape(subset.length))
            targets.fill(model, network.task, 0, len(subset), batch)

            def losses(targets: Any = targets, count: int = len(subset)) -> npt.NDArray[np.float64]:
                rows = np.split(np.arange(count), range(batch, count, batch))
                return np.concatenate([losses_on(model, targets, network.task, function, part) for part in rows])

            dense = _dense_losses(losses, quality, function)
            names = list(network.matrices)
            for first in range(DAMAGED_NETWORKS):
                with negated(model, names[first::DAMAGED_NETWORKS]):
                    if not np.array_equal(losses(), dense):
                        return
    raise problem(
        "SS234",
        f"objectives[0] {quality!r} is {np.mean(dense):.6g} for the dense network and for every damaged one: "
        "it cannot tell candidates apart.",
        fix="Choose another quality, or other selection data.",
    )


def _dense_losses(losses: Any, quality: str, function: UserQuality | None) -> npt.NDArray[np.float64]:
    """Return the losses of the dense network, (samples,); raises InputError SS233 or SS235."""
    try:
        values: npt.NDArray[np.float64] = losses()
    except SparseSearchError:
        raise
    except Exception as error:  # a user's function may raise anything
        if function is None:
            raise
        raise problem(
            "SS235",
            f"quality(model, samples) fails on the dense network: {type(error).__name__}: {first_line(error)}.",
            fix="Return one loss for each sample, or one for all.",
        ) from None
    if not np.isfinite(values).all():
        raise problem("SS233", f"objectives[0] {quality!r} of the dense network is not finite.", fix="Repair it first.")
    return values


@contextmanager
def negated(model: Any, names: Sequence[str]) -> Iterator[None]:
    """Negate some matrices of the network while the block runs."""
    parameters = [model.get_parameter(name) for name in names]
    for parameter in parameters:
        parameter.data.neg_()
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.data.neg_()
