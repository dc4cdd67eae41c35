"""A genome: a level index for each unit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Genome:
    """An immutable, hashable int16 vector of level indices; all zeros is the dense model.

    Attributes:
        data: the little-endian int16 level indices as bytes.
    """

    data: bytes

    @classmethod
    def of(cls, levels: Iterable[int] | npt.NDArray[np.integer]) -> Genome:
        """Return the genome of a vector of level indices, (units,)."""
        array = levels if isinstance(levels, np.ndarray) else np.array(list(levels))
        return cls(array.astype("<i2").tobytes())

    @cached_property
    def levels(self) -> Levels:
        """The level indices, shape (units,), read-only."""
        return np.frombuffer(self.data, dtype="<i2")

    @cached_property
    def id(self) -> str:
        """The candidate's name: ten hexadecimal digits."""
        return hashlib.sha256(self.data).hexdigest()[:10]

    def __len__(self) -> int:
        return len(self.data) // 2
