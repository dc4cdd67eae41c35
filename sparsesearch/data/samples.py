"""Inputs of a network: token windows, images, or arrays of the user."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
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
    """Arrays of inputs, by name of the argument of `forward`; the first axis counts samples.

    Attributes:
        arrays: integers (tokens), floats (pixels), booleans or complex numbers, (samples, ...) each.
        labels: the class of each sample, (samples,), if known.
    """

    arrays: dict[str, Array]
    labels: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def length(self) -> int:
        """Tokens of a sample; 1 if samples are not token sequences."""
        tokens = [a for name, a in self.arrays.items() if name != MASK and a.dtype.kind in "iu" and a.ndim == 2]
        return sum(a.shape[1] for a in tokens) or 1

    @property
    def size(self) -> int:
        """Total number of tokens, or of samples if they are not token sequences."""
        return len(self) * self.length

    def rows(self, rows: Rows) -> Samples:
        """Return some of the samples."""
        labels = None if self.labels is None else self.labels[rows]
        return Samples({name: array[rows] for name, array in self.arrays.items()}, labels)

    def inputs_on_cpu(self) -> list[torch.Tensor]:
        """Return tensors in the order of their names: integers as int64, floats as float32."""
        return [_tensor(self.arrays[name]) for name in ordered_names(self.arrays)]

    def inputs(self, model: Any) -> dict[str, torch.Tensor]:
        """Return tensors on the model's device by name: integers as int64, floats in the model's type."""
        parameter = next(model.parameters())
        tensors = {name: _tensor(array) for name, array in self.arrays.items()}
        return {
            name: tensor.to(parameter.device, parameter.dtype if tensor.is_floating_point() else None)
            for name, tensor in tensors.items()
        }

    @property
    def digest(self) -> str:
        """SHA-256 of all arrays and their shapes."""
        arrays = self.arrays | ({} if self.labels is None else {LABELS: self.labels})
        total = hashlib.sha256()
        for name, array in sorted(arrays.items()):
            total.update(f"{name} {array.dtype} {array.shape}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()

    def save(self, directory: Path) -> None:
        """Write each array to a file `NAME.npy`."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, array in self.arrays.items():
            np.save(directory / f"{name}.npy", array)
        if self.labels is not None:
            np.save(directory / f"{LABELS}.npy", self.labels)

    @classmethod
    def load(cls, directory: Path) -> Samples:
        """Return the samples written by `save`, memory-mapped; raises DamagedFile SS601."""
        loaded = {path.stem: _load(path) for path in directory.glob("*.npy")}
        labels = loaded.pop(LABELS, None)
        arrays = {name: loaded[name] for name in ordered_names(loaded)}
        lengths = {len(array) for array in (*arrays.values(), *(() if labels is None else (labels,)))}
        if not arrays or len(lengths) > 1:
            raise DamagedFile(directory, f"its arrays hold different numbers of samples: {sorted(lengths)}")
        return cls(arrays, labels)


def ordered_names(names: Iterable[str]) -> list[str]:
    """Return names of arrays in order: numbers (positional inputs of `forward`) by value, before all other names."""
    return sorted(names, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))


def _tensor(array: Array) -> torch.Tensor:
    import torch  # here, so that runs can be read without torch

    types = {"i": np.int64, "u": np.int64, "b": np.bool_, "c": np.complex64}
    return torch.from_numpy(np.array(array, dtype=types.get(array.dtype.kind, np.float32)))


def _load(path: Path) -> Array:
    try:
        check_regular(path)
        array: Array = np.load(path, mmap_mode="r")
        len(array)
    except Exception as error:  # numpy raises dozens of types for invalid headers
        raise DamagedFile(path, f"not an array of samples: {first_line(error)}") from None
    return array


def training_samples(samples: Mapping[str, Samples]) -> Samples:
    """Return what networks are trained on, among samples by role: the training role, or else calibration data."""
    return samples.get("training", samples["calibration"])
