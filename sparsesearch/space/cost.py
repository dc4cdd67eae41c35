"""Exact integer costs of any genome, from tables.

A model is a sum of parts (its tensors). A part's cost depends on at most three units: the *cut* that narrows it (FFN
width or KV groups), the *sparsity* of its weights, and the *drop* of its sublayer. Nonzeros are counted inside the cut,
so costs of a mixed space are exact although they are not additive over units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sparsesearch.space.unit import Unit

COSTS = {
    "params": "weights stored, tied weights once",
    "nonzeros": "weights that are not zero",
    "prunable_nonzeros": "of these, those in matrices that the space can prune: what `sparsity` counts",
    "macs": "multiply-accumulates a token with dense kernels: linears, output head, attention over `context` tokens",
    "bytes": "params in the checkpoint's data type",
    "kv_bytes": "KV-cache bytes for `context` tokens",
}
_INDEX = {name: i for i, name in enumerate(COSTS)}

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """One tensor and what it costs at each level of the units that touch it.

    Attributes:
        name: the parameter's dotted path.
        params, macs, kv_bytes: one value for each level of `cut` (a single value where `cut` is None).
        nonzeros: for each level of `sparsity`, one value for each level of `cut`.
        cut, sparsity, drop: names of the units that touch the tensor, or None.
    """

    name: str
    params: tuple[int, ...]
    nonzeros: tuple[tuple[int, ...], ...]
    macs: tuple[int, ...]
    kv_bytes: tuple[int, ...]
    cut: str | None = None
    sparsity: str | None = None
    drop: str | None = None

    @property
    def prunable(self) -> bool:
        """Whether it is a matrix that some unit prunes (embeddings, norms and biases are not)."""
        return bool(self.macs[0] and self.params[0] and (self.cut or self.sparsity or self.drop))

    def with_nonzeros(self, nonzeros: Sequence[Sequence[int]]) -> Part:
        """The same part with measured nonzeros in place of nominal ones."""
        return replace(self, nonzeros=tuple(tuple(row) for row in nonzeros))


class CostModel:
    """Costs of genomes over fixed units and parts; every method is exact in int64."""

    def __init__(self, units: Sequence[Unit], parts: Sequence[Part], bytes_per_weight: int) -> None:
        self.units, self.parts, self.bytes_per_weight = tuple(units), tuple(parts), bytes_per_weight
        position = {unit.name: i for i, unit in enumerate(units)}
        absent = len(units)  # index of an appended column of zeros: "no such unit" reads as level 0

        def column(name: str | None) -> int:
            return absent if name is None else position[name]

        self._cut = np.array([column(p.cut) for p in parts])
        self._sparsity = np.array([column(p.sparsity) for p in parts])
        self._drop = np.array([column(p.drop) for p in parts])
        self._stride = np.array([len(p.params) for p in parts])
        sizes = [len(p.params) * len(p.nonzeros) for p in parts]
        self._offset = np.cumsum([0, *sizes[:-1]])
        self._table = np.concatenate([self._rows(p) for p in parts])
        self._max_level = np.array([len(u.levels) - 1 for u in units], dtype=np.int64)
        # (unit, part) pairs, grouped by unit: what changes when one unit moves.
        pairs = sorted({(u, p) for p in range(len(parts)) for u in self._touching(p) if u != absent})
        self._pair_unit = np.array([u for u, _ in pairs], dtype=np.int64)
        self._pair_part = np.array([p for _, p in pairs], dtype=np.int64)

    def _touching(self, part: int) -> tuple[int, int, int]:
        return int(self._cut[part]), int(self._sparsity[part]), int(self._drop[part])

    def _rows(self, part: Part) -> Ints:
        rows = [
            (params, nonzeros, nonzeros * part.prunable, macs, params * self.bytes_per_weight, kv_bytes)
            for row in part.nonzeros
            for params, nonzeros, macs, kv_bytes in zip(part.params, row, part.macs, part.kv_bytes, strict=True)
        ]
        return np.array(rows, dtype=np.int64)

    def totals(self, levels: npt.ArrayLike) -> Ints:
        """Costs in the order of `COSTS` of level vectors, shape (..., units) -> (..., costs)."""
        levels = np.asarray(levels, dtype=np.int64)
        padded = np.concatenate([levels, np.zeros((*levels.shape[:-1], 1), dtype=np.int64)], axis=-1)
        row = self._offset + padded[..., self._sparsity] * self._stride + padded[..., self._cut]
        kept = padded[..., self._drop] == 0
        total: Ints = (self._table[row] * kept[..., None]).sum(axis=-2)
        return total

    def neighbours(self, levels: npt.ArrayLike, step: int) -> Ints:
        """Costs after moving each unit alone by `step` levels, shape (units, costs).

        A unit that cannot move that far keeps the costs of `levels` itself.
        """
        levels = np.asarray(levels, dtype=np.int64)
        moved = np.clip(levels + step, 0, self._max_level)
        padded = np.append(levels, 0)
        unit, part = self._pair_unit, self._pair_part

        def level_of(column: Ints) -> Ints:
            return np.where(column[part] == unit, moved[unit], padded[column[part]])

        row = self._offset[part] + level_of(self._sparsity) * self._stride[part] + level_of(self._cut)
        after = self._table[row] * (level_of(self._drop) == 0)[:, None]
        row = self._offset[part] + padded[self._sparsity[part]] * self._stride[part] + padded[self._cut[part]]
        before = self._table[row] * (padded[self._drop[part]] == 0)[:, None]
        change = np.zeros((len(self.units), len(COSTS)), dtype=np.int64)
        np.add.at(change, unit, after - before)
        return self.totals(levels) + change

    def named(self, levels: npt.ArrayLike) -> dict[str, int]:
        """Costs of one level vector by name."""
        return dict(zip(COSTS, map(int, self.totals(levels)), strict=True))


def cost_index(name: str) -> int:
    """Column of a cost in what `CostModel.totals` returns."""
    return _INDEX[name]
