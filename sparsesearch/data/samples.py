"""Inputs of a network, whatever they are: token windows, images, or arrays of the user's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sparsesearch.arrays import Ints
from sparsesearch.errors import DamagedFile, first_line
from sparsesearch.files import check_regular

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]
Rows = slice | Sequence[int] | Ints
LABELS = "labels"
MASK = "attention_mask"


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
    import torch  # late, since reading a run needs none

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
