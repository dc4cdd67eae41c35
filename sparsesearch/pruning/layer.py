"""What local pruners are given: one matrix and its inputs, or one group of elements with the matrices around it.

Shape suffixes: O outputs, I inputs, L levels, E elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sparsesearch.calibration import InputStatistics
from sparsesearch.config import PrunerConfig
from sparsesearch.errors import problem


@dataclass(frozen=True)
class Layer:
    """One matrix of dense weights (O, I), float32, and what is known of its inputs and of the loss around it.

    Attributes:
        weight_OI: the dense weights.
        inputs: statistics of its inputs.
        gradient_square_OI: mean over calibration samples of the squared loss gradient of each weight.
        gradient_OI: mean over calibration samples of the loss gradient of each weight.
    """

    weight_OI: torch.Tensor
    inputs: InputStatistics
    gradient_square_OI: torch.Tensor | None = None
    gradient_OI: torch.Tensor | None = None

    def inputs_only(self, columns: torch.Tensor) -> Layer:
        """The same for some of the inputs alone."""
        given = self.inputs
        inputs = InputStatistics(
            given.second_moment[columns][:, columns], given.mean[columns], given.sequence_square[columns]
        )
        square, mean = (g if g is None else g[:, columns] for g in (self.gradient_square_OI, self.gradient_OI))
        return Layer(self.weight_OI[:, columns], inputs, square, mean)


@dataclass(frozen=True)
class Reader:
    """A matrix all of whose inputs belong to the elements of a cut; element e is the inputs `index[e]`, (E, span)."""

    layer: Layer
    index: torch.Tensor

    def by_element(self, value_I: torch.Tensor) -> torch.Tensor:
        """A value of each input, summed over the inputs of each element, shape (E,)."""
        return value_I[self.index].sum(dim=1)


@dataclass(frozen=True)
class Writer:
    """The rows by which a matrix writes each element, and the mean and mean square of their loss gradients.

    All of shape (E, span, inputs).
    """

    weight: torch.Tensor
    gradient: torch.Tensor | None = None
    gradient_square: torch.Tensor | None = None


@dataclass(frozen=True)
class Group:
    """The elements of one cut.

    Attributes:
        readers: matrices that read the elements.
        writers: matrices that write them.
    """

    readers: tuple[Reader, ...]
    writers: tuple[Writer, ...]

    @property
    def elements(self) -> int:
        return len(self.readers[0].index)


# (layer, weights kept at each level, options) -> weight_LOI with at most that many nonzeros each
Unstructured = Callable[[Layer, Sequence[int], PrunerConfig], torch.Tensor]
# (group, elements kept at each level, options)
#   -> elements in order of removal, and for each level the weights of the kept inputs of every reader
Structured = Callable[[Group, Sequence[int], PrunerConfig], tuple[torch.Tensor, list[list[torch.Tensor]]]]


def needed(gradient: torch.Tensor | None, pruner: str) -> torch.Tensor:
    """The gradients, or InputError SS209 where none were gathered."""
    if gradient is None:
        raise problem(
            "SS209",
            f"pruner {pruner} needs gradients of the loss, and none were gathered for this matrix.",
            fix="Choose a pruner without gradients; see: sparsesearch list pruners",
        )
    return gradient


def kept_elements(order: torch.Tensor, elements: int, count: int) -> torch.Tensor:
    """The `count` elements that are left after the first removals of an order, ascending."""
    alive = torch.ones(elements, dtype=torch.bool)
    alive[order[: elements - count]] = False
    return alive.nonzero().flatten()


def kept_inputs(index: torch.Tensor, order: torch.Tensor, count: int) -> torch.Tensor:
    """The inputs of the elements that are left, ascending."""
    return index[kept_elements(order, len(index), count)].flatten().sort().values
