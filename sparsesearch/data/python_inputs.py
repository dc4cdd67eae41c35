"""Samples from arrays or tensors that a caller passes in Python: inputs, and perhaps labels."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sparsesearch.data.samples import Array, Samples
from sparsesearch.errors import SparseSearchError, first_line, problem

# Any number of inputs.
_ANY = range(1, sys.maxsize)


def inputs_of_forward(module: torch.nn.Module) -> range:
    """Return the numbers of positional inputs that `forward` accepts, from the fewest to the most."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # compiled code has no signature
        return _ANY
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    fewest = sum(p.default is p.empty for p in named)
    most = _ANY.stop - 1 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(named)
    return range(max(fewest, 1), most + 1)


def samples_by_role(data: Mapping[str, Any], input_counts: range) -> dict[str, Samples]:
    """Make samples of each role from Python arrays; the calibration data fix the number of inputs of all roles.

    Args:
        data: arrays by role, as `samples_from_arrays` takes them.
        input_counts: numbers of inputs that the network accepts.

    Raises InputError SS204 or SS212 as `samples_from_arrays` does.
    """
    if not isinstance(data, Mapping):
        raise _array_error("given", f"got {type(data).__name__} instead of a mapping from roles")
    samples: dict[str, Samples] = {}
    for role in sorted(data, key=lambda role: role != "calibration"):
        samples[role] = samples_from_arrays(role, data[role], input_counts)
        if role == "calibration":
            count = len(samples[role].arrays)
            input_counts = range(count, count + 1)
    return {role: samples[role] for role in data}


def samples_from_arrays(role: str, data: Any, input_counts: range = _ANY) -> Samples:
    """Make samples from Python arrays: inputs, or (inputs, labels) with a vector of integers as labels.

    The last array is labels if the network accepts only the arrays before it. If it accepts both with and without the
    last array, this is labels only if it is a vector of integers.

    Args:
        role: role of the samples, for messages.
        data: an array or tensor (samples, ...), a tuple of them, and perhaps labels (samples,) at the end.
        input_counts: numbers of inputs that the network accepts.

    Raises InputError SS204 if lengths differ, arrays are too many or too few, or an input is not an array; SS212 for
    labels that are not classes.
    """
    parts = [_array(role, part) for part in _as_tuple(data)]
    is_vector = bool(parts) and parts[-1].ndim == 1 and parts[-1].dtype.kind in "iu"
    has_labels = len(parts) - 1 in input_counts and (is_vector or len(parts) not in input_counts)
    labels = parts.pop() if has_labels else None
    if len(parts) not in input_counts:
        raise problem(
            "SS204",
            f"{role} data: {len(parts)} arrays of inputs are given, the network takes {_range_text(input_counts)}.",
            fix="Give the inputs of forward in their order, then labels if there are any.",
        )
    lengths = {len(part) for part in [*parts, *([] if labels is None else [labels])]}
    if len(lengths) != 1 or not min(lengths):
        raise problem(
            "SS204", f"{role} data: arrays have {sorted(lengths)} samples; they need the same number, at least 1."
        )
    if labels is not None and not (is_vector and labels.min() >= 0):
        raise problem(
            "SS212",
            f"{role} data: labels must be a vector of classes, integers from 0, one a sample; got "
            f"{labels.dtype} {labels.shape}{' with negative values' if is_vector else ''}.",
            fix="Give classes (of one-hot labels, labels.argmax(-1)), or inputs without labels.",
        )
    return Samples({str(i): part for i, part in enumerate(parts)}, labels)


def _range_text(counts: range) -> str:
    if len(counts) == 1:
        return str(counts[0])
    return f"at least {counts[0]}" if counts.stop == _ANY.stop else f"{counts[0]} to {counts[-1]}"


def _as_tuple(data: Any) -> tuple[Any, ...]:
    """Return arrays in a flat tuple, also if several inputs are a tuple of their own before the labels."""
    if not isinstance(data, (tuple, list)):
        return (data,)
    return tuple(array for part in data for array in (part if isinstance(part, tuple) else (part,)))


def _array(role: str, part: Any) -> Array:
    try:
        if isinstance(part, torch.Tensor):
            part = part.detach().cpu()
            part = part.float() if part.dtype == torch.bfloat16 else part
        array = np.asarray(part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _array_error(role, first_line(error)) from None
    if array.dtype.kind not in "biufc" or not array.ndim:
        raise _array_error(role, f"got {type(part).__name__} of {array.dtype} {array.shape}")
    return array


def _array_error(role: str, reason: str) -> SparseSearchError:
    return problem(
        "SS204",
        f"{role} data: inputs must be arrays or tensors of numbers whose first axis counts samples: {reason}.",
        fix="Give an array, or a tuple of arrays.",
    )
