"""Exact integer costs of any genome, from tables.

A model is a sum of parts (its tensors). A part's cost depends on the *cuts* that narrow it along its axes (FFN width,
KV groups, experts, channels), the *sparsity* of its weights, and the *drop* of its sublayer. Nonzeros are counted
inside the cuts, so costs of a mixed space are exact although they are not additive over units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sparsesearch.arrays import Bools, Ints
from sparsesearch.errors import SparseSearchError, problem
from sparsesearch.space.unit import Unit

COSTS = {
    "params": "weights stored, tied weights once",
    "nonzeros": "weights that are not zero",
    "prunable_nonzeros": "of these, those in matrices that the space can prune: what `sparsity` counts",
    "macs": "multiply-accumulates with dense kernels, a token (attention over `context` tokens), or a sample of images",
    "bytes": "params in the checkpoint's data type",
    "kv_bytes": "KV-cache bytes for `context` tokens",
    "latency_ns": "nanoseconds of one request, put together from what was measured on the device that `latency` names",
    "memory_bytes": "memory of that request: weights, KV cache and, as measured on the dense network, activations",
}
# What is known only where a device was measured.
MEASURED = ("latency_ns", "memory_bytes")
_INDEX = {name: i for i, name in enumerate(COSTS)}

# Sums of costs stay below: what 64 bits hold, less the error of adding in floating point.
_BEYOND = 2.0**62


# How many cuts may narrow one tensor.
CUTS = 4


@dataclass(frozen=True)
class Part:
    """One tensor and what it costs at each level of the units that touch it.

    Attributes:
        name: the parameter's dotted path.
        params, macs, kv_bytes: one value for each combination of levels of `cuts`, the last cut running fastest.
        nonzeros: for each level of `sparsity`, one value for each such combination.
        cuts: names of the units that narrow the tensor, at most `CUTS`.
        sparsity, drop: names of further units that touch it, or None.
        latency_ns, memory_bytes: like params, where they were measured; else empty.
        free: whether it is not there at the dense levels of everything (a bias that only compensates pruning).
        prunable: whether it is a matrix that some unit prunes (embeddings, norms and biases are not).
    """

    name: str
    params: tuple[int, ...]
    nonzeros: tuple[tuple[int, ...], ...]
    macs: tuple[int, ...]
    kv_bytes: tuple[int, ...]
    cuts: tuple[str, ...] = ()
    sparsity: str | None = None
    drop: str | None = None
    prunable: bool = False
    free: bool = False
    latency_ns: tuple[int, ...] = ()
    memory_bytes: tuple[int, ...] = ()

    def with_nonzeros(self, nonzeros: Sequence[Sequence[int]]) -> Part:
        """The same part with measured nonzeros in place of nominal ones."""
        return replace(self, nonzeros=tuple(tuple(row) for row in nonzeros))


class CostModel:
    """Costs of genomes over fixed units and parts; every method is exact in int64."""

    def __init__(self, units: Sequence[Unit], parts: Sequence[Part], bytes_per_weight: int) -> None:
        self.units, self.parts, self.bytes_per_weight = tuple(units), tuple(parts), bytes_per_weight
        position = {unit.name: i for i, unit in enumerate(units)}
        absent = len(units)  # index of an appended column of zeros: "no such unit" reads as level 0
        # The units whose levels choose a part's row in its table, and how far one level moves that row.
        self._unit = np.full((CUTS + 1, len(parts)), absent)
        self._stride = np.zeros((CUTS + 1, len(parts)), dtype=np.int64)
        self._drop = np.array([absent if p.drop is None else position[p.drop] for p in parts])
        for i, part in enumerate(parts):
            stride = 1
            for axis, cut in enumerate(reversed(part.cuts)):
                self._unit[axis, i], self._stride[axis, i] = position[cut], stride
                stride *= len(units[position[cut]].levels)
            if part.sparsity is not None:
                self._unit[CUTS, i], self._stride[CUTS, i] = position[part.sparsity], stride
        used = self._stride.any(axis=1)
        self._unit, self._stride = self._unit[used], self._stride[used]
        self._drops = bool((self._drop != absent).any())
        sizes = [len(p.params) * len(p.nonzeros) for p in parts]
        self._offset = np.cumsum([0, *sizes[:-1]])
        self._table = np.concatenate([self._rows(p) for p in parts])
        largest = np.maximum.reduceat(self._table, self._offset).astype(float).sum(axis=0)
        if (largest >= _BEYOND).any():
            raise _too_large("the network")
        self._max_level = np.array([len(u.levels) - 1 for u in units], dtype=np.int64)
        # (unit, part) pairs, grouped by unit: what changes when one unit moves.
        touching = [*self._unit, self._drop]
        pairs = sorted({(int(c[p]), p) for p in range(len(parts)) for c in touching if c[p] != absent})
        self._pair_unit = np.array([u for u, _ in pairs], dtype=np.int64)
        self._pair_part = np.array([p for _, p in pairs], dtype=np.int64)

    def _rows(self, part: Part) -> Ints:
        none = (0,) * len(part.params)
        latency, memory = part.latency_ns or none, part.memory_bytes or none
        rows = _int64(
            part.name,
            [
                (params, nonzeros, nonzeros * part.prunable, macs, params * self.bytes_per_weight, kv_bytes, *measured)
                for row in part.nonzeros
                for params, nonzeros, macs, kv_bytes, *measured in zip(
                    part.params, row, part.macs, part.kv_bytes, latency, memory, strict=True
                )
            ],
        )
        if part.free:
            rows[0] = 0
        return rows

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The costs that are known here."""
        measured = any(part.latency_ns for part in self.parts)
        return tuple(name for name in COSTS if measured or name not in MEASURED)

    def table(self, part: int, cost: str) -> Ints:
        """A cost of one part at all levels of what touches it, (levels of its sparsity, of its first cut, ...)."""
        own = self.parts[part]
        rows = self._table[self._offset[part] :][: self.sizes[part], cost_index(cost)]
        levels = {unit.name: len(unit.levels) for unit in self.units}
        return rows.reshape(len(own.nonzeros), *(levels[cut] for cut in own.cuts))

    @cached_property
    def moves(self) -> Bools:
        """Whether a unit's levels change a cost, whatever the others are; shape (units, costs)."""
        found = np.zeros((len(self.units), len(COSTS)), dtype=bool)
        for unit, part in zip(self._pair_unit, self._pair_part, strict=True):
            rows = self._table[self._offset[part] :][: self.sizes[part]]
            if self._drop[part] == unit:
                found[unit] |= rows.any(axis=0)
            for axis in np.flatnonzero(self._unit[:, part] == unit):
                by_level = rows.reshape(-1, self._max_level[unit] + 1, self._stride[axis, part], len(COSTS))
                found[unit] |= (by_level != by_level[:, :1]).any(axis=(0, 1, 2))
        return found

    def totals(self, levels: npt.ArrayLike) -> Ints:
        """Costs in the order of `COSTS` of level vectors, shape (..., units) -> (..., costs)."""
        total: Ints = self._by_part(levels).sum(axis=-2)
        return total

    def _by_part(self, levels: npt.ArrayLike) -> Ints:
        row, dropped = self.rows(levels)
        costs: Ints = self._table[row]
        return costs * ~dropped[..., None] if self._drops else costs

    def rows(self, levels: npt.ArrayLike) -> tuple[Ints, Bools]:
        """For each part the row of its combination of levels, and whether its sublayer is dropped, (..., parts) each.

        Rows count through all parts in order, each with its combinations of (sparsity, cuts), the last cut fastest.
        """
        levels = np.asarray(levels, dtype=np.int64)
        padded = np.concatenate([levels, np.zeros((*levels.shape[:-1], 1), dtype=np.int64)], axis=-1)
        row: Ints = self._offset + (padded[..., self._unit] * self._stride).sum(axis=-2)
        dropped: Bools = padded[..., self._drop] != 0
        return row, dropped

    @property
    def sizes(self) -> Ints:
        """Combinations of levels of each part, (parts,)."""
        return np.diff([*self._offset, len(self._table)])

    def by_unit(self, levels: npt.ArrayLike) -> tuple[Ints, Ints]:
        """Costs of what each unit touches, (units, costs), and of the rest, (costs,); several may touch the same."""
        costs = self._by_part(levels)
        touched = np.zeros((len(self.units), len(COSTS)), dtype=np.int64)
        np.add.at(touched, self._pair_unit, costs[self._pair_part])
        rest = np.delete(costs, self._pair_part, axis=0).sum(axis=0)
        return touched, rest

    def neighbours(self, levels: npt.ArrayLike, step: int) -> Ints:
        """Costs after moving each unit alone by `step` levels, shape (units, costs).

        A unit that cannot move that far keeps the costs of `levels` itself.
        """
        levels = np.asarray(levels, dtype=np.int64)
        moved = np.clip(levels + step, 0, self._max_level)
        padded = np.append(levels, 0)
        unit, part = self._pair_unit, self._pair_part
        touching, stride = self._unit[:, part], self._stride[:, part]
        before, drop = padded[touching], self._drop[part]
        after = np.where(touching == unit, moved[unit], before)
        rows = [self._offset[part] + (level * stride).sum(axis=0) for level in (before, after)]
        drops = [padded[drop], np.where(drop == unit, moved[unit], padded[drop])]
        before, after = (self._table[row] * (d == 0)[:, None] for row, d in zip(rows, drops, strict=True))
        change = np.zeros((len(self.units), len(COSTS)), dtype=np.int64)
        if len(unit):
            first = np.flatnonzero(np.diff(unit, prepend=-1))  # pairs are grouped by unit
            change[unit[first]] = np.add.reduceat(after - before, first)
        return self.totals(levels) + change

    def named(self, levels: npt.ArrayLike) -> dict[str, int]:
        """Costs of one level vector by name."""
        totals = self.totals(levels)
        return {name: int(totals[cost_index(name)]) for name in self.names}


def _int64(name: str, rows: list[tuple[int, ...]]) -> Ints:
    try:
        return np.array(rows, dtype=np.int64)
    except OverflowError:
        raise _too_large(name) from None


def _too_large(name: str) -> SparseSearchError:
    return problem("SS128", f"costs of {name} do not fit 64 bits.", fix="Lower context, or mend latency.table.")


def amount(name: str, value: int) -> str:
    """A cost as messages say it: latency in milliseconds, all others as they are counted."""
    return f"{value / 1e6:.4g} ms" if name == "latency_ns" else f"{value:,}"


def cost_index(name: str) -> int:
    """Column of a cost in what `CostModel.totals` returns."""
    return _INDEX[name]
