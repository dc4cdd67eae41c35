"""The arguments of local pruners: one matrix and its inputs, or one group of elements with the matrices around it.

The capitals at the end of a tensor's name are its axes, in the whole package: G groups (of matrices that read different
inputs), O outputs, I inputs, L levels, E elements, S positions of an element. So `weight_OI` has the shape (O, I).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from sparsesearch.calibration import InputStatistics
from sparsesearch.config import PrunerConfig
from sparsesearch.errors import problem


@dataclass(frozen=True)
class Layer:
    """One matrix, with statistics of its inputs and of the loss gradient.

    Attributes:
        weight_OI: the dense weights, (O, I), float32.
        inputs: statistics of its inputs.
        gradient_square_OI: mean over calibration samples of the squared loss gradient of each weight, (O, I).
        gradient_OI: mean over calibration samples of the loss gradient of each weight, (O, I).
    """

    weight_OI: torch.Tensor
    inputs: InputStatistics
    gradient_square_OI: torch.Tensor | None = None
    gradient_OI: torch.Tensor | None = None

    def inputs_only(self, columns: torch.Tensor) -> Layer:
        """Return the layer of some of the inputs, of indices (inputs,)."""
        full = self.inputs
        inputs = InputStatistics(
            full.second_moment[columns][:, columns], full.mean[columns], full.sequence_square[columns]
        )
        square, mean = (g if g is None else g[:, columns] for g in (self.gradient_square_OI, self.gradient_OI))
        return Layer(self.weight_OI[:, columns], inputs, square, mean)


@dataclass(frozen=True)
class Reader:
    """A matrix whose inputs all belong to the elements of a cut.

    Attributes:
        layer: the matrix.
        index: the inputs of each element, (E, span).
    """

    layer: Layer
    index: torch.Tensor

    def by_element(self, value_I: torch.Tensor) -> torch.Tensor:
        """Return the sum over the inputs of each element of a value of each input, (I,) -> (E,)."""
        return value_I[self.index].sum(dim=1)


@dataclass(frozen=True)
class Writer:
    """The rows of a matrix that write each element, and mean and mean square of their loss gradients.

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
        """Number of elements, E."""
        return len(self.readers[0].index)


class Levels(NamedTuple):
    """The levels of one matrix.

    Attributes:
        weights: weights of every level, (L, O, I).
        errors: squared output error tr(Δ H Δᵀ) of every level, (L,), if the pruner knows it from its own work.
    """

    weights: torch.Tensor
    errors: torch.Tensor | None = None


# (layer, weights kept at each level, options) -> levels, or their weights (L, O, I), with at most that many nonzeros
Unstructured = Callable[[Layer, Sequence[int], PrunerConfig], torch.Tensor | Levels]
# (group, elements kept at each level, options)
#   -> elements in order of removal, and for each level the weights (O, kept inputs) of every reader
Structured = Callable[[Group, Sequence[int], PrunerConfig], tuple[torch.Tensor, list[list[torch.Tensor]]]]


def require_gradient(gradient: torch.Tensor | None, pruner: str) -> torch.Tensor:
    """Return the gradients, of any shape; raises InputError SS209 if none were gathered."""
    if gradient is None:
        raise problem(
            "SS209",
            f"pruner {pruner} needs gradients of the loss, and none were gathered for this matrix.",
            fix="Choose a pruner without gradients; see: sparsesearch list pruners",
        )
    return gradient


def kept_elements(order: torch.Tensor, elements: int, count: int) -> torch.Tensor:
    """Return the `count` elements that remain after the first removals of an order, ascending, (count,)."""
    kept = torch.ones(elements, dtype=torch.bool)
    kept[order[: elements - count]] = False
    return kept.nonzero().flatten()


def kept_inputs(index: torch.Tensor, order: torch.Tensor, count: int) -> torch.Tensor:
    """Return the inputs of the `count` elements that remain, ascending, (count * span,).

    Args:
        index: the inputs of each element, (E, span).
        order: elements in order of removal, (removed,).
        count: number of elements that remain.
    """
    return index[kept_elements(order, len(index), count)].flatten().sort().values
