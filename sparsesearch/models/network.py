"""What the search needs to know of a network: its matrices, what can be cut out of it, and what can be dropped.

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
        reads: key of its input statistics, equal for matrices that share one input.
        positions: times it acts on a token, or on a sample where samples are not token sequences; for experts, how
            many of them act.
    """

    name: str
    shape: tuple[int, ...]
    layout: Layout
    groups: int
    block: int
    reads: str
    positions: int = 1

    @property
    def input_axis(self) -> int:
        """Axis of the parameter along which its inputs lie."""
        return {"linear": 1, "transposed": 0, "conv": 1, "experts": 2}[self.layout]

    @property
    def kernel(self) -> int:
        """Columns that belong to one input: the taps of a convolution kernel, else 1."""
        return math.prod(self.shape[2:]) if self.layout == "conv" else 1

    @property
    def rows(self) -> int:
        """Rows of one group."""
        return self.shape[1] if self.layout in ("transposed", "experts") else self.shape[0] // self.groups

    @property
    def columns(self) -> int:
        return self.shape[self.input_axis] * self.kernel

    @property
    def bias(self) -> str:
        """Name of the bias beside it, whether it has one or not; empty for experts."""
        return "" if self.layout == "experts" else f"{self.name.removesuffix('weight')}bias"

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def view(self, tensor: torch.Tensor) -> torch.Tensor:
        """The parameter, perhaps narrowed, as (groups, rows, columns)."""
        if self.layout == "experts":
            return tensor
        if self.layout == "transposed":
            return tensor.T[None]
        return tensor.reshape(self.groups, tensor.shape[0] // self.groups, -1)

    def unview(self, matrix_GOI: torch.Tensor) -> torch.Tensor:
        """The parameter that `view` would show as these matrices."""
        if self.layout == "experts":
            return matrix_GOI
        if self.layout == "transposed":
            return matrix_GOI[0].T.contiguous()
        if self.layout == "linear":
            return matrix_GOI[0]
        groups, rows, columns = matrix_GOI.shape
        return matrix_GOI.reshape(groups * rows, columns // self.kernel, *self.shape[2:])


@dataclass(frozen=True, eq=False)
class Slot:
    """Where the elements of a cut lie in one tensor (a parameter or a buffer).

    Attributes:
        tensor: dotted path.
        axis: along which they lie.
        index: positions along the axis, shape (orders, elements, span).
        batched: order i selects within slice i of axis 0 only (neurons of expert i), not along the whole tensor;
            the index is then one for all orders, shape (1, elements, span).
    """

    tensor: str
    axis: int
    index: Index
    batched: bool = False

    def own(self, kept: torch.Tensor) -> torch.Tensor:
        """Ascending positions of kept elements (orders, count): (positions,), or (orders, positions) where batched."""
        index = torch.from_numpy(self.index)
        rows = index.expand(len(kept), -1, -1) if self.batched else index
        chosen = torch.stack([row[elements].flatten() for row, elements in zip(rows, kept, strict=True)])
        return chosen.sort(dim=1).values if self.batched else chosen.flatten().sort().values

    def staying(self, kept: torch.Tensor, full: int) -> torch.Tensor:
        """Which of the `full` positions along the axis stay, bool: what belongs to no element always does."""
        stays = torch.ones(full, dtype=torch.bool)
        stays[torch.from_numpy(self.index).flatten()] = False
        stays[self.own(kept)] = True
        return stays

    def covers(self, full: int) -> bool:
        """Whether all positions along the axis belong to elements."""
        return int(self.index.size) == full

    def size(self, full: int, elements: int) -> int:
        """Length of the axis, dense length `full`, where `elements` are kept in each order."""
        orders, total, span = map(int, self.index.shape)
        return full - (total - elements) * span * (1 if self.batched else orders)


@dataclass(frozen=True)
class Attribute:
    """A number that a module keeps about its size: `per_element` times the elements kept.

    `name` may be `config.NAME`: the module then gets a configuration of its own.
    """

    module: str
    name: str
    per_element: int


@dataclass(frozen=True, eq=False)
class Cut:
    """A set of equal elements that can be removed one by one: FFN neurons, KV groups, experts, channels.

    Attributes:
        kind: of the unit that cuts.
        path: the module that the unit is about.
        elements: in each order.
        writers: tensors from which removed elements leave.
        readers: matrices that read the elements, along their input axis; their columns leave, the rest is refitted.
        attributes: sizes to keep in step.
        orders: independent orders of removal; each keeps equally many elements.
        minimum: fewest elements that may stay in each order.
        align: elements stay in multiples of this, because kernels need it.
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
        """Name of the unit that cuts, where a space has it."""
        return f"{self.path}.{self.kind}"


@dataclass(frozen=True)
class Drop:
    """A sublayer that can be left out.

    Attributes:
        kind: `attention` or `ffn`.
        path: the module that the unit is about.
        stand_ins: (module path, name in `surgery.STAND_INS`): what takes whose place; all their parameters leave.
        outputs: parameters that silence the sublayer where they are zero, for forms that keep dense shapes.
    """

    kind: Literal["attention", "ffn"]
    path: str
    block: int
    stand_ins: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the unit that drops, where a space has it."""
        return f"{self.path}.drop_{self.kind}"

    def takes(self, tensor: str) -> bool:
        """Whether a tensor leaves with it."""
        return any(tensor.startswith(f"{path}.") for path, _ in self.stand_ins)


@dataclass(frozen=True)
class Attention:
    """What attention costs beside its matrices.

    Attributes:
        path: of the attention module.
        cut, heads, drop: names of the units that may touch it; `heads` is the one of query heads.
        elements: KV groups.
        query_heads: of each KV group.
        macs: of one KV group, for each pair of a query and a key.
        cached: values that one KV group keeps in the KV cache for a token.
        cached_always: values kept for a token whatever is cut.
        queries, keys: of one sample; None where they are tokens, and keys as many as the context has.
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
    """What the search needs to know of a network.

    Attributes:
        blocks: dotted paths of its blocks, in order.
        blockwise: whether each block's output is the next one's first argument, so that statistics can be collected
            block by block.
        matrices: by name; those that sparsity applies to and pruners read.
        shapes: of every parameter, tied ones once, and of the buffers that cuts touch.
        applied: times that a token (or a sample) meets each weight that is no matrix of a unit: head, router.
        values: numbers that it puts out at a position: words, classes, or the size of an embedding.
        positions: positions of its output for an image or a sample of a module's; 1 for token sequences, which have as
            many as tokens.
        axis: of what it returns, along which the values lie.
        distribution: whether the values of a position are logits of one distribution; not where there is one value,
            and not of embeddings and heads for regression or several labels.
        rest_macs: multiply-accumulates a sample of layers and products that no unit touches, beside `applied`.
        max_length: longest window, in tokens.
        limits: what cannot be searched here, and why, one sentence each.
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
    limits: tuple[str, ...] = ()
    axis: int = -1
    distribution: bool = True
    rest_macs: int = 0

    def output_shape(self, length: int) -> tuple[int, int]:
        """(positions, values) that come out for a sample of `length` tokens."""
        if self.task.data == "pair":
            length //= 2
        if self.task.name == "module":
            return self.positions, self.values
        return (1 if self.task.pooled else max(length, self.positions)), self.values
