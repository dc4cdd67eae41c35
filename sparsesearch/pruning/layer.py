"""What local pruners are given: one matrix and its inputs, or one group of elements with the matrices that read it.

Shape suffixes: O outputs, I inputs, L levels, E elements.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sparsesearch.calibration import InputStatistics


@dataclass(frozen=True)
class Layer:
    """One matrix of dense weights (O, I), float32, and what is known of its inputs."""

    weight_OI: torch.Tensor
    inputs: InputStatistics


@dataclass(frozen=True)
class Reader:
    """A matrix all of whose inputs belong to the elements of a cut; element e is the inputs `index[e]`, (E, span)."""

    layer: Layer
    index: torch.Tensor


@dataclass(frozen=True)
class Group:
    """The elements of one cut.

    Attributes:
        readers: matrices that read the elements.
        writers: for each matrix that writes them, its rows by element, (E, span, inputs).
    """

    readers: tuple[Reader, ...]
    writers: tuple[torch.Tensor, ...]

    @property
    def elements(self) -> int:
        return len(self.readers[0].index)


def kept_elements(order: torch.Tensor, elements: int, count: int) -> torch.Tensor:
    """The `count` elements that are left after the first removals of an order, ascending."""
    alive = torch.ones(elements, dtype=torch.bool)
    alive[order[: elements - count]] = False
    return alive.nonzero().flatten()


def kept_inputs(index: torch.Tensor, order: torch.Tensor, count: int) -> torch.Tensor:
    """The inputs of the elements that are left, ascending."""
    return index[kept_elements(order, len(index), count)].flatten().sort().values
