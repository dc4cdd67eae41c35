"""What the search needs to know of a network: its linears, sublayers and parameter sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Axis = Literal["rows", "columns"]


@dataclass(frozen=True)
class Linear:
    """One linear layer, weight shape (rows, columns) = (outputs, inputs).

    Attributes:
        path: dotted path of the module.
        cut_axis: the axis that narrows when its sublayer is cut.
        cut_span: rows or columns that belong to one neuron or one KV group.
        reads: path of the linear whose input this one shares, so that one second-moment matrix serves both.
    """

    path: str
    rows: int
    columns: int
    cut_axis: Axis
    cut_span: int
    reads: str
    bias: bool


@dataclass(frozen=True)
class Sublayer:
    """An attention or feed-forward sublayer with its norm.

    Attributes:
        kind: `attention` or `ffn`.
        path, norm: dotted paths of the sublayer and of the norm before it.
        elements: KV groups or neurons.
        linears: in execution order; the last one reads the cut elements and writes the residual stream.
        extras: paths of further parameters that go when the sublayer is dropped.
        head_dim, queries: for attention, the head size and the query heads of a KV group.
    """

    kind: Literal["attention", "ffn"]
    block: int
    path: str
    norm: str
    elements: int
    linears: tuple[Linear, ...]
    extras: tuple[str, ...] = ()
    head_dim: int = 0
    queries: int = 0

    @property
    def cut_kind(self) -> str:
        """Kind of the unit that narrows it."""
        return "kv_groups" if self.kind == "attention" else "ffn_width"

    @property
    def cut_unit(self) -> str:
        """Name of the unit that narrows it, where a space has it."""
        return f"{self.path}.{self.cut_kind}"

    @property
    def drop_unit(self) -> str:
        """Name of the unit that drops it, where a space has it."""
        return f"{self.path}.drop_{self.kind}"

    @property
    def output(self) -> Linear:
        """The linear that reads the cut elements and writes the residual stream."""
        return self.linears[-1]


@dataclass(frozen=True)
class Architecture:
    """What the search needs to know of a network.

    Attributes:
        blocks: dotted paths of the transformer blocks, in order.
        sublayers: attention and feed-forward sublayers, block by block.
        sizes: element count of every parameter by path; tied parameters once.
        head: path of the output head's weight (the embedding's where tied), rows x columns MACs a token.
    """

    model_type: str
    hidden: int
    vocabulary: int
    max_length: int
    blocks: tuple[str, ...]
    sublayers: tuple[Sublayer, ...]
    sizes: dict[str, int]
    head: str

    def linears(self) -> dict[str, Linear]:
        return {linear.path: linear for sublayer in self.sublayers for linear in sublayer.linears}

    def owner(self) -> dict[str, Sublayer]:
        """The sublayer of each linear, by the linear's path."""
        return {linear.path: sublayer for sublayer in self.sublayers for linear in sublayer.linears}
