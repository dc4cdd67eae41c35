"""The cost parts of a network: costs of each parameter, and of attention, at all levels of the units that cut them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sparsesearch.models.network import Attention, Matrix, Network, Slot, sparsity_unit_name
from sparsesearch.space import Part, Unit


def build_parts(
    network: Network, units: Sequence[Unit], context: int, bytes_per_weight: int, compensate: bool = False
) -> list[Part]:
    """Return cost parts of every parameter, and of attention over `context` tokens.

    Nonzeros are nominal: every kept weight counts.

    Args:
        compensate: whether biases compensate the change of mean outputs by pruning.
    """
    by_name = {unit.name: unit for unit in units}
    slots: dict[str, list[UnitSlot]] = {}
    for cut in network.cuts.values():
        if cut.name in by_name:
            for slot in (*cut.writers, *cut.readers):
                slots.setdefault(slot.tensor, []).append(UnitSlot(slot, by_name[cut.name], slot in cut.readers))
    biases = compensated_matrices(network, by_name) if compensate else {}
    parts = [_part(network, name, slots.get(name, []), by_name) for name in network.shapes if name not in biases]
    parts += [_bias_part(network, matrix, slots.get(matrix.name, []), by_name) for matrix in biases.values()]
    if network.rest_macs:
        parts.append(Part("layers and products that no unit touches", (0,), ((0,),), (network.rest_macs,), (0,)))
    return parts + [_attention_part(a, by_name, context, bytes_per_weight) for a in network.attentions]


class UnitSlot(NamedTuple):
    """A slot, the unit that cuts it, and whether its tensor reads the elements."""

    slot: Slot
    unit: Unit
    reads: bool


def compensated_matrices(network: Network, units: Collection[str]) -> dict[str, Matrix]:
    """Return matrices whose mean outputs the units change, by the name of the bias that compensates the change."""
    read = {slot.tensor for cut in network.cuts.values() if cut.name in units for slot in cut.readers}
    return {
        matrix.bias: matrix
        for matrix in network.matrices.values()
        if matrix.bias and (matrix.name in read or sparsity_unit_name(matrix) in units)
    }


def _bias_part(network: Network, matrix: Matrix, slots: list[UnitSlot], units: dict[str, Unit]) -> Part:
    """Return the part of a compensating bias: its matrix's units change it, and cuts of the rows narrow it."""
    weight = _part(network, matrix.name, slots, units)
    sizes = []
    for kept in itertools.product(*(unit.levels for _, unit, _ in slots)):
        size = matrix.rows * matrix.groups
        for (slot, _, reads), elements in zip(slots, kept, strict=True):
            size = size if reads else slot.size(size, elements)
        sizes.append(size)
    zeros = tuple(0 for _ in sizes)
    nonzeros = tuple(tuple(sizes) for _ in weight.nonzeros)
    drop = next((d.name for d in network.drops.values() if d.name in units and d.removes(matrix.bias)), None)
    return Part(
        matrix.bias,
        tuple(sizes),
        nonzeros,
        zeros,
        zeros,
        weight.cuts,
        weight.sparsity,
        drop,
        free=matrix.bias not in network.shapes,
    )


def _part(network: Network, name: str, slots: list[UnitSlot], units: dict[str, Unit]) -> Part:
    """Return the part of a parameter at every combination of levels of the units that cut it."""
    dense_shape, matrix = network.shapes[name], network.matrices.get(name)
    shapes = []
    for kept in itertools.product(*(unit.levels for _, unit, _ in slots)):
        shape = list(dense_shape)
        for (slot, _, _), elements in zip(slots, kept, strict=True):
            shape[slot.axis] = slot.size(shape[slot.axis], elements)
        shapes.append(shape)
    params = tuple(math.prod(shape) for shape in shapes)
    sparsity = units.get(sparsity_unit_name(matrix)) if matrix else None
    weights = sparsity.levels if sparsity else (1,)
    drop = next((d.name for d in network.drops.values() if d.name in units and d.removes(name)), None)
    if matrix is None:
        macs = tuple(p * network.applied.get(name, 0) for p in params)
    elif matrix.layout == "experts":
        macs = tuple(matrix.positions * math.prod(shape[1:]) for shape in shapes)
    else:
        macs = tuple(p * matrix.positions for p in params)
    return Part(
        name,
        params,
        tuple(tuple(p * w // weights[0] for p in params) for w in weights),
        macs,
        tuple(0 for _ in params),
        cuts=tuple(unit.name for _, unit, _ in slots),
        sparsity=sparsity.name if sparsity else None,
        drop=drop,
        prunable=matrix is not None and bool(slots or sparsity or drop),
    )


def _attention_part(attention: Attention, units: dict[str, Unit], context: int, bytes_per_weight: int) -> Part:
    cut, heads = units.get(attention.cut), units.get(attention.heads)
    # (KV groups, query heads of each) at every level; a space has a unit of only one of the two.
    sizes = [(k, attention.query_heads) for k in (cut.levels if cut else (attention.elements,))]
    if heads:
        sizes = [(attention.elements, queries) for queries in heads.levels]
    keys = context if attention.keys is None else attention.keys
    zeros = tuple(0 for _ in sizes)
    cached = tuple((k * attention.cached + attention.cached_always) * context * bytes_per_weight for k, _ in sizes)
    macs = attention.macs * attention.queries * keys
    return Part(
        f"{attention.path} (attention over the context)",
        zeros,
        (zeros,),
        tuple(k * queries * macs // attention.query_heads for k, queries in sizes),
        cached,
        cuts=tuple(unit.name for unit in (cut, heads) if unit),
        drop=attention.drop if attention.drop in units else None,
    )
