"""The description of a network that a search works on: its matrices, cuts and sublayers that can be dropped.

A family map (`models/families/`) or a trace writes this description of a stock module; nothing rewrites modeling code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from sparsesearch.models.task import Task

Layout = Literal["linear", "transposed", "conv", "experts"]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Matrix:
    """A weight seen as `groups` matrices of (rows, columns) = (outputs, inputs).

    Attributes:
        name: dotted path of the parameter.
        shape: of the parameter itself.
        layout: `linear` (rows, columns); `transposed` (columns, rows); `conv` (rows of all groups, input channels of a
            group, *kernel), whose columns are unfolded patches; `experts` (groups, rows, columns).
        groups: matrices that read different inputs: convolution groups, or experts.
        block: index of the block it lies in.
        input_key: key of its input statistics, equal for matrices that share one input.
        positions: times it is applied to a token, or to a sample if samples are not token sequences; for experts, how
            many of them are applied.
    """

    name: str
    shape: tuple[int, ...]
    layout: Layout
    groups: int
    block: int
    input_key: str
    positions: int = 1

    @property
    def input_axis(self) -> int:
        """Axis of the parameter along which its inputs lie."""
        return {"linear": 1, "transposed": 0, "conv": 1, "experts": 2}[self.layout]

    @property
    def kernel(self) -> int:
        """Columns per input: the taps of a convolution kernel, else 1."""
        return math.prod(self.shape[2:]) if self.layout == "conv" else 1

    @property
    def rows(self) -> int:
        """Rows of one group."""
        return self.shape[1] if self.layout in ("transposed", "experts") else self.shape[0] // self.groups

    @property
    def columns(self) -> int:
        """Columns of one group."""
        return self.shape[self.input_axis] * self.kernel

    @property
    def bias(self) -> str:
        """Name of the layer's bias, whether the layer has one or not; empty for experts."""
        return "" if self.layout == "experts" else f"{self.name.removesuffix('weight')}bias"

    @property
    def size(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the parameter, which may be narrowed and has the axes of `shape`, as (groups, rows, columns)."""
        if self.layout == "experts":
            return tensor
        if self.layout == "transposed":
            return tensor.T[None]
        return tensor.reshape(self.groups, tensor.shape[0] // self.groups, -1)

    def unview(self, matrix_GOI: torch.Tensor) -> torch.Tensor:
        """Return the parameter, with the axes of `shape`, of matrices (groups, rows, columns): inverse of `view`."""
        if self.layout == "experts":
            return matrix_GOI
        if self.layout == "transposed":
            return matrix_GOI[0].T.contiguous()
        if self.layout == "linear":
            return matrix_GOI[0]
        groups, rows, columns = matrix_GOI.shape
        return matrix_GOI.reshape(groups * rows, columns // self.kernel, *self.shape[2:])


def sparsity_module(matrix: Matrix) -> str:
    """Return the path by which sparsity units name a matrix: that of its module, or of the tensor of all experts."""
    return matrix.name.removesuffix(".weight")


def sparsity_unit_name(matrix: Matrix) -> str:
    """Return the name of a matrix's sparsity unit, as in `Unit.name`."""
    return f"{sparsity_module(matrix)}.sparsity"


@dataclass(frozen=True, eq=False)
class Slot:
    """The positions of a cut's elements in one tensor (a parameter or a buffer).

    Attributes:
        tensor: dotted path.
        axis: along which they lie.
        index: positions along the axis, shape (orders, elements, span).
        batched: whether order i selects within slice i of axis 0 only (neurons of expert i), not along the whole
            tensor; the index is then shared by all orders, shape (1, elements, span).
    """

    tensor: str
    axis: int
    index: Index
    batched: bool = False

    def positions_of(self, kept: torch.Tensor) -> torch.Tensor:
        """Return the ascending positions of kept elements.

        Args:
            kept: kept elements, (orders, count).

        Returns:
            Shape (positions,), or (orders, positions) if batched.
        """
        index = torch.from_numpy(self.index)
        rows = index.expand(len(kept), -1, -1) if self.batched else index
        positions = torch.stack([row[elements].flatten() for row, elements in zip(rows, kept, strict=True)])
        return positions.sort(dim=1).values if self.batched else positions.flatten().sort().values

    def mask_of(self, kept: torch.Tensor, full: int) -> torch.Tensor:
        """Return which of the `full` positions along the axis stay, (full,) bool.

        Positions that belong to no element always stay.

        Args:
            kept: kept elements, (orders, count).
        """
        stays = torch.ones(full, dtype=torch.bool)
        stays[torch.from_numpy(self.index).flatten()] = False
        stays[self.positions_of(kept)] = True
        return stays

    def covers(self, full: int) -> bool:
        """Return whether all `full` positions along the axis belong to elements."""
        return int(self.index.size) == full

    def size(self, full: int, elements: int) -> int:
        """Return the length of the axis, `full` if dense, if `elements` are kept in each order."""
        orders, total, span = map(int, self.index.shape)
        return full - (total - elements) * span * (1 if self.batched else orders)


@dataclass(frozen=True)
class Attribute:
    """A number that a module keeps about its size: `per_element` times the elements kept.

    `name` may be `config.NAME`: the module then gets its own copy of the configuration.
    """

    module: str
    name: str
    per_element: int


@dataclass(frozen=True, eq=False)
class Cut:
    """A set of equal elements that can be removed one by one: FFN neurons, KV groups, experts, channels.

    Attributes:
        kind: kind of the unit that cuts.
        path: module that the unit belongs to.
        block: index of the block it lies in.
        elements: number of elements in each order.
        writers: tensors that lose the removed elements.
        readers: matrices that read the elements, along their input axis; they lose the columns of removed elements, and
            the other columns are refitted.
        attributes: sizes that modules keep, to be updated.
        orders: number of independent orders of removal; each keeps equally many elements.
        minimum: fewest elements that may stay in each order.
        align: elements are kept in multiples of this, because kernels need it.
    """

    kind: str
    path: str
    block: int
    elements: int
    writers: tuple[Slot, ...]
    readers: tuple[Slot, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    orders: int = 1
    minimum: int = 1
    align: int = 1

    @property
    def name(self) -> str:
        """Name of the unit that cuts, if a space has it."""
        return f"{self.path}.{self.kind}"


@dataclass(frozen=True)
class Drop:
    """A sublayer that can be left out.

    Attributes:
        kind: `attention` or `ffn`.
        path: module that the unit belongs to.
        stand_ins: (path of a module, name of its replacement in `surgery.stand_in`); all parameters of these modules
            leave.
        outputs: parameters that silence the sublayer if they are zero, for forms that keep dense shapes.
    """

    kind: Literal["attention", "ffn"]
    path: str
    block: int
    stand_ins: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the unit that drops, if a space has it."""
        return f"{self.path}.drop_{self.kind}"

    def removes(self, tensor: str) -> bool:
        """Return whether a tensor is removed with the sublayer."""
        return any(tensor.startswith(f"{path}.") for path, _ in self.stand_ins)


@dataclass(frozen=True)
class Attention:
    """The products and the KV cache of an attention sublayer, which costs count beside its matrices.

    Attributes:
        path: path of the attention module.
        cut: name of the unit that removes its KV groups, if a space has it.
        heads: name of the unit that removes query heads of all its KV groups, if a space has it.
        drop: name of the unit that leaves out the whole sublayer, if a space has it.
        elements: number of KV groups.
        query_heads: query heads of each KV group.
        macs: multiply-accumulates of one KV group, per pair of a query and a key.
        cached: values per token that one KV group keeps in the KV cache.
        cached_always: values per token that are cached whatever is cut.
        queries: queries of one token, or of one image.
        keys: keys of one image; None for tokens, which have as many as the context.
    """

    path: str
    cut: str
    heads: str
    drop: str
    elements: int
    query_heads: int
    macs: int
    cached: int = 0
    cached_always: int = 0
    queries: int = 1
    keys: int | None = None


@dataclass(frozen=True)
class Network:
    """The description of a network that a search works on.

    Attributes:
        hidden: size of the hidden states; 0 if there is no single one.
        values: numbers that it puts out per position: words, classes, or the size of an embedding.
        positions: positions of its output per image or per sample of a module; 1 for token sequences, whose outputs
            have a position per token.
        max_length: longest window, in tokens.
        blocks: dotted paths of its blocks, in order.
        blockwise: whether each block's output is the next one's first argument, so that statistics can be collected
            block by block.
        matrices: matrices that sparsity applies to and pruners read, by name.
        cuts, drops: cuts and sublayers that can be dropped, by the name of their unit.
        shapes: shape of every parameter, tied ones once, and of the buffers that cuts touch.
        applied: times that each weight that is no matrix of a unit (head, router) is applied to a token or a sample.
        unsearchable: parts that cannot be searched, and why, and parts that costs leave out; a clause each.
        axis: axis of the returned tensor along which the values lie.
        distribution: whether the values of a position are logits of one distribution; false if there is one value, for
            embeddings, and for heads of regression or several labels.
        rest_macs: multiply-accumulates per sample of layers and products that no unit touches, beside `applied`.
    """

    model_type: str
    task: Task
    hidden: int
    values: int
    positions: int
    max_length: int
    blocks: tuple[str, ...]
    blockwise: bool
    matrices: dict[str, Matrix]
    cuts: dict[str, Cut]
    drops: dict[str, Drop]
    attentions: tuple[Attention, ...]
    shapes: dict[str, tuple[int, ...]]
    applied: dict[str, int]
    unsearchable: tuple[str, ...] = ()
    axis: int = -1
    distribution: bool = True
    rest_macs: int = 0

    def output_shape(self, length: int) -> tuple[int, int]:
        """Return (positions, values) of the output for a sample of `length` tokens."""
        if self.task.data == "pair":
            length //= 2
        if self.task.name == "module":
            return self.positions, self.values
        return (1 if self.task.pooled else max(length, self.positions)), self.values
