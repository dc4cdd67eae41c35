"""Whether a network and its quality can be searched with, found out on a few samples before anything is built."""

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

# Ways in which a network is damaged before a quality is said not to see it: each changes other matrices.
DAMAGES = 4


def check_network(model: Any, network: Network, samples: Samples) -> None:
    """Raise InputError SS233 where matrices, or outputs for samples, hold values that are not finite."""
    for name in network.matrices:
        if not bool(torch.isfinite(model.get_parameter(name)).all()):
            raise _not_finite(f"weight {name} holds")
    check_finite(model, outputs_of(model, network.task, samples), "calibration samples")


def check_finite(model: Any, outputs: torch.Tensor, where: str) -> None:
    """Raise InputError SS233 where dense outputs are not finite, with the parameter that may be why."""
    if bool(torch.isfinite(outputs).all()):
        return
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise _not_finite(f"weight {name} holds")
    raise _not_finite(f"outputs of the dense network on {where} hold")


def _not_finite(what: str) -> SparseSearchError:
    return problem("SS233", f"{what} values that are not finite (NaN or infinite).", fix="Mend the model first.")


def check_sight(
    model: Any, network: Network, samples: Samples, quality: str, own: UserQuality | None, batch: int
) -> None:
    """Raise InputError SS234 where a quality is the same for the dense network and for clearly damaged ones, or SS235
    where a quality of the user's own cannot be measured on the dense network.

    Args:
        samples: selection data; all of them are used only where the first `batch` show no difference.
    """
    for some in (samples.rows(slice(0, batch)), samples)[: 1 + (len(samples) > batch)]:
        with tempfile.TemporaryDirectory() as directory:
            targets = quality_class(quality).create(Path(directory), some, network.output_shape(some.length))
            targets.fill(model, network.task, 0, len(some), batch)

            def losses(targets: Any = targets, count: int = len(some)) -> npt.NDArray[np.float64]:
                rows = np.split(np.arange(count), range(batch, count, batch))
                return np.concatenate([losses_on(model, targets, network.task, own, part) for part in rows])

            dense = _measured(losses, quality, own)
            names = list(network.matrices)
            for first in range(DAMAGES):
                with negated(model, names[first::DAMAGES]):
                    if not np.array_equal(losses(), dense):
                        return
    raise problem(
        "SS234",
        f"objectives[0] {quality!r} is {np.mean(dense):.6g} for the dense network and for every damaged one: "
        "it cannot tell candidates apart.",
        fix="Choose another quality, or other selection data.",
    )


def _measured(losses: Any, quality: str, own: UserQuality | None) -> npt.NDArray[np.float64]:
    """Losses of the dense network."""
    try:
        found: npt.NDArray[np.float64] = losses()
    except SparseSearchError:
        raise
    except Exception as error:  # whatever a user's function raises
        if own is None:
            raise
        raise problem(
            "SS235",
            f"quality(model, samples) fails on the dense network: {type(error).__name__}: {first_line(error)}.",
            fix="Return a loss of each sample, or one of all.",
        ) from None
    if not np.isfinite(found).all():
        raise problem("SS233", f"objectives[0] {quality!r} of the dense network is not finite.", fix="Mend it first.")
    return found


@contextmanager
def negated(model: Any, names: Sequence[str]) -> Iterator[None]:
    """The network with some matrices negated, which leaves no trace."""
    parameters = [model.get_parameter(name) for name in names]
    for parameter in parameters:
        parameter.data.neg_()
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.data.neg_()
