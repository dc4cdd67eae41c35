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

Array = npt.NDArray[Any]
Rows = slice | Sequence[int] | npt.NDArray[np.int64]
LABELS = "labels"


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
        return sum(a.shape[1] for a in self.arrays.values() if a.dtype.kind in "iu" and a.ndim == 2) or 1

    @property
    def size(self) -> int:
        """Tokens, or samples, in all."""
        return len(self) * self.length

    def rows(self, rows: Rows) -> Samples:
        labels = None if self.labels is None else self.labels[rows]
        return Samples({name: array[rows] for name, array in self.arrays.items()}, labels)

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
