"""Inputs of a network, whatever they are: token windows, images, or arrays of the user's own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sparsesearch.errors import InputError

Array = npt.NDArray[Any]
Rows = slice | Sequence[int] | npt.NDArray[np.int64]
LABELS = "labels"
MASK = "attention_mask"


@dataclass(frozen=True)
class Samples:
    """Samples by the name of the argument of `forward` that they are given as; the first axis counts samples.

    Attributes:
        arrays: integers (tokens) or floats (pixels).
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
        arrays = [array for _, array in sorted(self.arrays.items())]
        return [torch.from_numpy(np.array(a, dtype=np.int64 if a.dtype.kind in "iu" else np.float32)) for a in arrays]

    def inputs(self, model: Any) -> dict[str, torch.Tensor]:
        """Tensors on the model's device: integers as int64, floats in the model's type."""
        parameter = next(model.parameters())
        found = {}
        for name, array in self.arrays.items():
            integer = array.dtype.kind in "iu"
            tensor = torch.from_numpy(np.array(array, dtype=np.int64 if integer else np.float32))
            found[name] = tensor.to(parameter.device, None if integer else parameter.dtype)
        return found

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
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(directory.glob("*.npy"))}
        labels = arrays.pop(LABELS, None)
        return cls(arrays, labels)


def given_samples(role: str, given: Any) -> Samples:
    """Samples from what a user hands over: inputs, or (inputs, labels) where labels are a vector of integers.

    Args:
        given: an array or tensor (samples, ...), a tuple of them, and perhaps labels (samples,) at the end.

    Raises InputError SS204 where lengths differ or there is nothing.
    """
    parts = [np.asarray(p.detach().cpu() if hasattr(p, "detach") else p) for p in _as_tuple(given)]
    labels = parts.pop() if len(parts) > 1 and parts[-1].ndim == 1 and parts[-1].dtype.kind in "iu" else None
    lengths = {len(part) for part in [*parts, *([] if labels is None else [labels])]}
    if len(lengths) != 1 or not min(lengths):
        raise InputError(
            "SS204", f"{role} data: arrays have {sorted(lengths)} samples; they need equally many, at least 1."
        )
    return Samples({str(i): part for i, part in enumerate(parts)}, labels)


def _as_tuple(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, (tuple, list)) else (given,)
