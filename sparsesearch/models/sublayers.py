"""Descriptions of sublayers that family maps pass to the builder: linears, heads, elements, routing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparsesearch.models.network import Index, Slot

# (name, value per element) of numbers that a module keeps about its size.
Sizes = Sequence[tuple[str, int]]


def span(elements: int, size: int, offset: int = 0) -> Index:
    """Return the index of elements that lie side by side, `size` positions each, shape (1, elements, size)."""
    return (offset + np.arange(elements * size, dtype=np.int64)).reshape(1, elements, size)


def join_indices(*indices: Index) -> Index:
    """Return the index of elements that lie in several places, as in fused projections.

    Args:
        indices: index of each place, shape (1, elements, size); sizes may differ.

    Returns:
        Shape (1, elements, sum of sizes).
    """
    return np.concatenate(indices, axis=-1)


@dataclass(frozen=True)
class Linears:
    """The linears of a sublayer, by their dotted paths.

    Attributes:
        projections: linears that write the elements, with the index of the elements in their outputs.
        output: linear that reads the elements, which lie side by side in its inputs.
        plain: further linears, which no cut touches.
        own_input: linears among all these that do not share the input of the first projection.
    """

    projections: Mapping[str, Index]
    output: str
    plain: Sequence[str] = ()
    own_input: Sequence[str] = ()


@dataclass(frozen=True)
class Elements:
    """The equal parts of a sublayer, KV groups or neurons, that one cut can remove.

    Attributes:
        count: number of elements.
        width: adjacent inputs of the output linear that belong to one element.
        attributes: sizes that the sublayer's module keeps, (name, per element).
        extra_slots: further tensors that are cut.
        removable: whether elements can be removed.
    """

    count: int
    width: int = 1
    attributes: Sizes = ()
    extra_slots: Sequence[Slot] = ()
    removable: bool = True


@dataclass(frozen=True)
class Heads:
    """The heads of an attention sublayer.

    Attributes:
        groups: KV groups.
        queries: query heads of each KV group.
        head_dim, value_dim: size of queries and keys, and of values if that differs.
        attributes: sizes that the attention module keeps, (name, per KV group).
        query_attributes: sizes that the attention module keeps, (name, per query head of a group).
        extra_slots: further tensors that are cut with KV groups.
        removable: whether KV groups, and query heads inside them, can be removed.
    """

    groups: int
    queries: int
    head_dim: int
    value_dim: int | None = None
    attributes: Sizes = ()
    query_attributes: Sizes = (("num_key_value_groups", 1),)
    extra_slots: Sequence[Slot] = ()
    removable: bool = True


@dataclass(frozen=True)
class Context:
    """The keys and values that attention reads and caches.

    Attributes:
        cached: whether keys and values of every KV group go to a KV cache.
        always_cached: values per token that the cache holds whatever is cut.
        keys: number of keys that each query of an image meets; None: all positions of the sample.
    """

    cached: bool = True
    always_cached: int = 0
    keys: int | None = None


CACHED, NO_CACHE = Context(), Context(cached=False)


@dataclass(frozen=True)
class Routing:
    """How a router chooses experts.

    Attributes:
        active: experts that act on a token.
        groups: groups of experts that the router chooses among; each keeps equally many.
        minimum: fewest experts that may stay in each group; None: `active`.
    """

    active: int
    groups: int = 1
    minimum: int | None = None
