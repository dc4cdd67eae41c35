"""Samples from what a caller hands over in Python: arrays or tensors of inputs, and perhaps labels."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sparsesearch.data.samples import Array, Samples
from sparsesearch.errors import SparseSearchError, first_line, problem

# As many inputs as one likes.
_ANY = range(1, sys.maxsize)


def inputs_of_forward(module: torch.nn.Module) -> range:
    """How many inputs `forward` takes by position, from the fewest to the most."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # compiled code without one
        return _ANY
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    fewest = sum(p.default is p.empty for p in named)
    most = _ANY.stop - 1 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(named)
    return range(max(fewest, 1), most + 1)


def given_roles(data: Mapping[str, Any], takes: range) -> dict[str, Samples]:
    """Samples of each role from what a user hands over; calibration data say how many inputs there are.

    Args:
        takes: how many inputs the network can take.

    Raises InputError SS204 or SS212 as `given_samples` does.
    """
    if not isinstance(data, Mapping):
        raise _no_array("given", f"got {type(data).__name__} in place of roles")
    found: dict[str, Samples] = {}
    for role in sorted(data, key=lambda role: role != "calibration"):
        found[role] = given_samples(role, data[role], takes)
        if role == "calibration":
            count = len(found[role].arrays)
            takes = range(count, count + 1)
    return {role: found[role] for role in data}


def given_samples(role: str, given: Any, takes: range = _ANY) -> Samples:
    """Samples from what a user hands over: inputs, or (inputs, labels) where labels are a vector of integers.

    What follows as many inputs as the network can take is labels. Where it can take one more, only integers are.

    Args:
        given: an array or tensor (samples, ...), a tuple of them, and perhaps labels (samples,) at the end.
        takes: how many inputs the network can take.

    Raises InputError SS204 where lengths differ, arrays are too many or too few, or no arrays; SS212 for labels that
    are no classes.
    """
    parts = [_array(role, part) for part in _as_tuple(given)]
    vector = bool(parts) and parts[-1].ndim == 1 and parts[-1].dtype.kind in "iu"
    labelled = len(parts) - 1 in takes and (vector or len(parts) not in takes)
    labels = parts.pop() if labelled else None
    if len(parts) not in takes:
        raise problem(
            "SS204",
            f"{role} data: {len(parts)} arrays of inputs are given, the network takes {_counted(takes)}.",
            fix="Give the inputs of forward in their order, then labels if there are any.",
        )
    lengths = {len(part) for part in [*parts, *([] if labels is None else [labels])]}
    if len(lengths) != 1 or not min(lengths):
        raise problem(
            "SS204", f"{role} data: arrays have {sorted(lengths)} samples; they need equally many, at least 1."
        )
    if labels is not None and not (vector and labels.min() >= 0):
        raise problem(
            "SS212",
            f"{role} data: labels are a vector of classes, integers from 0, one a sample; got "
            f"{labels.dtype} {labels.shape}{' with negative ones' if vector else ''}.",
            fix="Give classes (of one-hot labels, labels.argmax(-1)), or inputs alone.",
        )
    return Samples({str(i): part for i, part in enumerate(parts)}, labels)


def _counted(takes: range) -> str:
    if len(takes) == 1:
        return str(takes[0])
    return f"at least {takes[0]}" if takes.stop == _ANY.stop else f"{takes[0]} to {takes[-1]}"


def _as_tuple(given: Any) -> tuple[Any, ...]:
    """Arrays one after the other, also where several inputs are a tuple beside the labels."""
    if not isinstance(given, (tuple, list)):
        return (given,)
    return tuple(one for part in given for one in (part if isinstance(part, tuple) else (part,)))


def _array(role: str, part: Any) -> Array:
    try:
        if isinstance(part, torch.Tensor):
            part = part.detach().cpu()
            part = part.float() if part.dtype == torch.bfloat16 else part
        found = np.asarray(part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _no_array(role, first_line(error)) from None
    if found.dtype.kind not in "biufc" or not found.ndim:
        raise _no_array(role, f"got {type(part).__name__} of {found.dtype} {found.shape}")
    return found


def _no_array(role: str, reason: str) -> SparseSearchError:
    return problem(
        "SS204",
        f"{role} data: inputs are arrays or tensors of numbers, the first axis counts samples: {reason}.",
        fix="Give an array, or a tuple of arrays.",
    )
