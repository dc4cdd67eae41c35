"""Exact integer costs of any genome, from tables.

A model's cost is the sum over its parts (its tensors). A part's cost depends on the *cuts* that narrow it along its
axes (FFN width, KV groups, experts, channels), the *sparsity* of its weights, and the *drop* of its sublayer. Nonzeros
are counted inside the cuts, so costs of a mixed space are exact although they are not additive over units.
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
# Costs that are known only after measuring on a device.
MEASURED = ("latency_ns", "memory_bytes")
_INDEX = {name: i for i, name in enumerate(COSTS)}

# Sums of costs must stay below this: the range of int64, less the error of adding in floating point.
_MAX_TOTAL = 2.0**62

# Largest number of cuts that may narrow one tensor.
CUTS = 4


@dataclass(frozen=True)
class Part:
    """One tensor and what it costs at each level of the units that touch it.

    Attributes:
        name: the parameter's dotted path.
        params, macs, kv_bytes: one value for each combination of levels of `cuts`, the last cut running fastest.
        nonzeros: for each level of `sparsity`, one value for each such combination.
        cuts: names of the units that narrow the tensor, at most `CUTS`.
        sparsity, drop: names of the units that prune its weights and drop its sublayer, or None.
        latency_ns, memory_bytes: like params, if they were measured; else empty.
        free: whether the dense model does not have it (a bias that only compensates pruning).
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
        """Return the same part with measured nonzeros instead of nominal ones."""
        return replace(self, nonzeros=tuple(tuple(row) for row in nonzeros))


class CostModel:
    """Costs of genomes over fixed units and parts; every method is exact in int64."""

    def __init__(self, units: Sequence[Unit], parts: Sequence[Part], bytes_per_weight: int) -> None:
        self.units, self.parts, self.bytes_per_weight = tuple(units), tuple(parts), bytes_per_weight
        position = {unit.name: i for i, unit in enumerate(units)}
        absent = len(units)  # index of an appended column of zeros, so that an absent unit reads as level 0
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
        if (largest >= _MAX_TOTAL).any():
            raise _too_large("the network")
        self._max_level = np.array([len(u.levels) - 1 for u in units], dtype=np.int64)
        # (unit, part) pairs, grouped by unit: the parts whose costs change when one unit moves.
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
        """Names of the known costs, in the order of `COSTS`."""
        measured = any(part.latency_ns for part in self.parts)
        return tuple(name for name in COSTS if measured or name not in MEASURED)

    def table(self, part: int, cost: str) -> Ints:
        """Return a cost of one part at all levels of its units, (levels of its sparsity, of its first cut, ...)."""
        rows = self._table[self._offset[part] :][: self.rows_per_part[part], cost_index(cost)]
        levels = {unit.name: len(unit.levels) for unit in self.units}
        return rows.reshape(len(self.parts[part].nonzeros), *(levels[cut] for cut in self.parts[part].cuts))

    @cached_property
    def cost_depends_on_unit(self) -> Bools:
        """Whether a unit's level can change a cost, at any levels of the other units; shape (units, costs)."""
        depends = np.zeros((len(self.units), len(COSTS)), dtype=bool)
        for unit, part in zip(self._pair_unit, self._pair_part, strict=True):
            rows = self._table[self._offset[part] :][: self.rows_per_part[part]]
            if self._drop[part] == unit:
                depends[unit] |= rows.any(axis=0)
            for axis in np.flatnonzero(self._unit[:, part] == unit):
                by_level = rows.reshape(-1, self._max_level[unit] + 1, self._stride[axis, part], len(COSTS))
                depends[unit] |= (by_level != by_level[:, :1]).any(axis=(0, 1, 2))
        return depends

    def totals(self, levels: npt.ArrayLike) -> Ints:
        """Return costs in the order of `COSTS` of level vectors, shape (..., units) -> (..., costs)."""
        total: Ints = self._part_costs(levels).sum(axis=-2)
        return total

    def _part_costs(self, levels: npt.ArrayLike) -> Ints:
        """Return costs of each part, shape (..., units) -> (..., parts, costs)."""
        row, dropped = self.part_rows(levels)
        costs: Ints = self._table[row]
        return costs * ~dropped[..., None] if self._drops else costs

    def part_rows(self, levels: npt.ArrayLike) -> tuple[Ints, Bools]:
        """Return for each part the row of its combination of levels, and whether its sublayer is dropped.

        Rows count through all parts in order, each with its combinations of (sparsity, cuts), the last cut fastest.

        Args:
            levels: level vectors, (..., units).

        Returns:
            Rows and drops, (..., parts) each.
        """
        levels = np.asarray(levels, dtype=np.int64)
        padded = np.concatenate([levels, np.zeros((*levels.shape[:-1], 1), dtype=np.int64)], axis=-1)
        row: Ints = self._offset + (padded[..., self._unit] * self._stride).sum(axis=-2)
        dropped: Bools = padded[..., self._drop] != 0
        return row, dropped

    @property
    def rows_per_part(self) -> Ints:
        """Number of combinations of levels of each part, (parts,)."""
        return np.diff([*self._offset, len(self._table)])

    def totals_by_unit(self, levels: npt.ArrayLike) -> tuple[Ints, Ints]:
        """Return costs of the parts that each unit touches and of the parts that no unit touches.

        A part that several units touch counts for each of them.

        Args:
            levels: one level vector, (units,).

        Returns:
            (units, costs) and (costs,).
        """
        costs = self._part_costs(levels)
        touched = np.zeros((len(self.units), len(COSTS)), dtype=np.int64)
        np.add.at(touched, self._pair_unit, costs[self._pair_part])
        untouched = np.delete(costs, self._pair_part, axis=0).sum(axis=0)
        return touched, untouched

    def neighbours(self, levels: npt.ArrayLike, step: int) -> Ints:
        """Return costs after moving each unit alone by `step` levels, shape (units,) -> (units, costs).

        A unit moves at most to its first or last level.
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
        """Return the costs of one level vector (units,) by name."""
        totals = self.totals(levels)
        return {name: int(totals[cost_index(name)]) for name in self.names}


def _int64(name: str, rows: list[tuple[int, ...]]) -> Ints:
    try:
        return np.array(rows, dtype=np.int64)
    except OverflowError:
        raise _too_large(name) from None


def _too_large(name: str) -> SparseSearchError:
    return problem("SS128", f"costs of {name} do not fit 64 bits.", fix="Lower context, or correct latency.table.")


def format_cost(name: str, value: int) -> str:
    """Return a cost as shown in messages: latency in milliseconds, all others as counts."""
    return f"{value / 1e6:.4g} ms" if name == "latency_ns" else f"{value:,}"


def cost_index(name: str) -> int:
    """Return the column of a cost in the result of `CostModel.totals`."""
    return _INDEX[name]
