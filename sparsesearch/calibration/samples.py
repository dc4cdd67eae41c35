"""Inputs of a network, whatever they are: token windows, images, or arrays of the user's own."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sparsesearch.errors import DamagedFile, InputError, first_line
from sparsesearch.files import check_regular

Array = npt.NDArray[Any]
Rows = slice | Sequence[int] | npt.NDArray[np.int64]
LABELS = "labels"
MASK = "attention_mask"
# As many inputs as one likes.
_ANY = range(1, sys.maxsize)


@dataclass(frozen=True)
class Samples:
    """Samples by the name of the argument of `forward` that they are given as; the first axis counts samples.

    Attributes:
        arrays: integers (tokens), floats (pixels), booleans or complex numbers.
        labels: the right class of each sample, where known.
    """

    arrays: dict[str, Array]
    labels: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def length(self) -> int:
        """Tokens of a sample; 1 where samples are not token sequences."""
        tokens = [a for name, a in self.arrays.items() if name != MASK and a.dtype.kind in "iu" and a.ndim == 2]
        return sum(a.shape[1] for a in tokens) or 1

    @property
    def size(self) -> int:
        """Tokens, or samples, in all."""
        return len(self) * self.length

    def rows(self, rows: Rows) -> Samples:
        labels = None if self.labels is None else self.labels[rows]
        return Samples({name: array[rows] for name, array in self.arrays.items()}, labels)

    def inputs_on_cpu(self) -> list[torch.Tensor]:
        """Tensors in the order of their names: integers as int64, floats as float32."""
        return [_tensor(self.arrays[name]) for name in ordered(self.arrays)]

    def inputs(self, model: Any) -> dict[str, torch.Tensor]:
        """Tensors on the model's device: integers as int64, floats in the model's type."""
        parameter = next(model.parameters())
        tensors = {name: _tensor(array) for name, array in self.arrays.items()}
        return {
            name: tensor.to(parameter.device, parameter.dtype if tensor.is_floating_point() else None)
            for name, tensor in tensors.items()
        }

    @property
    def digest(self) -> str:
        """SHA-256 of all arrays and their shapes."""
        everything = self.arrays | ({} if self.labels is None else {LABELS: self.labels})
        total = hashlib.sha256()
        for name, array in sorted(everything.items()):
            total.update(f"{name} {array.dtype} {array.shape}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()

    def save(self, directory: Path) -> None:
        """One file an array."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, array in self.arrays.items():
            np.save(directory / f"{name}.npy", array)
        if self.labels is not None:
            np.save(directory / f"{LABELS}.npy", self.labels)

    @classmethod
    def load(cls, directory: Path) -> Samples:
        """What `save` wrote, memory-mapped."""
        found = {path.stem: _load(path) for path in directory.glob("*.npy")}
        labels = found.pop(LABELS, None)
        arrays = {name: found[name] for name in ordered(found)}
        lengths = {len(array) for array in (*arrays.values(), *(() if labels is None else (labels,)))}
        if not arrays or len(lengths) > 1:
            raise DamagedFile(directory, f"its arrays hold {sorted(lengths)} samples, not equally many")
        return cls(arrays, labels)


def ordered(names: Iterable[str]) -> list[str]:
    """Names of arrays in order: numbers, which inputs of `forward` have, by their value."""
    return sorted(names, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))


def _tensor(array: Array) -> torch.Tensor:
    types = {"i": np.int64, "u": np.int64, "b": np.bool_, "c": np.complex64}
    return torch.from_numpy(np.array(array, dtype=types.get(array.dtype.kind, np.float32)))


def _load(path: Path) -> Array:
    try:
        check_regular(path)
        found: Array = np.load(path, mmap_mode="r")
        len(found)
    except Exception as error:  # numpy raises dozens of types for a header that makes no sense
        raise DamagedFile(path, f"not an array of samples: {first_line(error)}") from None
    return found


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
        raise InputError(
            "SS204", f"{role} data: {len(parts)} arrays of inputs are given, the network takes {_counted(takes)}.",
            "Give the inputs of forward in their order, then labels if there are any.",
        )  # fmt: skip
    lengths = {len(part) for part in [*parts, *([] if labels is None else [labels])]}
    if len(lengths) != 1 or not min(lengths):
        raise InputError(
            "SS204", f"{role} data: arrays have {sorted(lengths)} samples; they need equally many, at least 1."
        )
    if labels is not None and not (vector and labels.min() >= 0):
        raise InputError(
            "SS212", f"{role} data: labels are a vector of classes, integers from 0, one a sample; got "
            f"{labels.dtype} {labels.shape}{' with negative ones' if vector else ''}.",
            "Give classes (of one-hot labels, labels.argmax(-1)), or inputs alone.",
        )  # fmt: skip
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


def _no_array(role: str, reason: str) -> InputError:
    return InputError(
        "SS204", f"{role} data: inputs are arrays or tensors of numbers, the first axis counts samples: {reason}.",
        "Give an array, or a tuple of arrays.",
    )  # fmt: skip
