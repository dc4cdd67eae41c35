"""The space: units, exact costs and limits in one immutable object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsesearch.arrays import Bools, Floats, Ints
from sparsesearch.errors import problem
from sparsesearch.space.cost import MEASURED, CostModel, Part, amount, cost_index
from sparsesearch.space.genome import Genome
from sparsesearch.space.limit import Bound, Limit
from sparsesearch.space.unit import Unit


@dataclass(frozen=True)
class Space:
    """What can be chosen, what each choice costs, and which choices are allowed.

    Attributes:
        units: the choices, in genome order.
        parts: the model's tensors with their costs at every level.
        bytes_per_weight: of the checkpoint's data type.
        limits: limits as written.
    """

    units: tuple[Unit, ...]
    parts: tuple[Part, ...]
    bytes_per_weight: int
    limits: tuple[Limit, ...] = ()

    @cached_property
    def costs(self) -> CostModel:
        return CostModel(self.units, self.parts, self.bytes_per_weight)

    @cached_property
    def max_levels(self) -> Ints:
        """Highest (smallest-model) level of each unit, shape (units,)."""
        return np.array([len(u.levels) - 1 for u in self.units], dtype=np.int64)

    @cached_property
    def blocks(self) -> Ints:
        """The block of each unit, shape (units,)."""
        return np.array([unit.block for unit in self.units], dtype=np.int64)

    @cached_property
    def kinds(self) -> npt.NDArray[np.str_]:
        """The kind of each unit, shape (units,)."""
        return np.array([unit.kind for unit in self.units])

    @cached_property
    def drops(self) -> Bools:
        """Which units drop a sublayer, shape (units,)."""
        return np.array([unit.is_drop for unit in self.units])

    @cached_property
    def removed(self) -> list[Floats]:
        """For each unit, the fraction removed at each of its levels."""
        return [np.array([u.removed(i) for i in range(len(u.levels))]) for u in self.units]

    @cached_property
    def dense(self) -> Genome:
        return Genome.of(np.zeros(len(self.units), dtype=np.int16))

    @cached_property
    def smallest(self) -> Genome:
        return Genome.of(self.max_levels)

    @cached_property
    def dense_costs(self) -> dict[str, int]:
        return self.costs.named(self.dense.levels)

    @cached_property
    def prunable(self) -> int:
        """Weights of the dense model in matrices that some unit can prune, the base of `sparsity`."""
        return sum(p.params[0] for p in self.parts if p.prunable)

    @cached_property
    def bounds(self) -> tuple[Bound, ...]:
        return tuple(limit.bound(self.dense_costs, self.prunable) for limit in self.limits)

    @cached_property
    def _bound_columns(self) -> tuple[npt.NDArray[np.intp], Ints]:
        columns = np.array([cost_index(b.cost) for b in self.bounds], dtype=np.intp)
        return columns, np.array([b.maximum for b in self.bounds], dtype=np.int64)

    @cached_property
    def bounded_by(self) -> Bools:
        """Whether the levels of each unit change the cost of each bound, shape (units, bounds)."""
        columns, _ = self._bound_columns
        return self.costs.moves[:, columns]

    def excess(self, costs: Ints) -> Ints:
        """How far costs (..., costs) exceed each bound, shape (..., bounds); all <= 0 is feasible."""
        columns, maxima = self._bound_columns
        return costs[..., columns] - maxima

    def feasible(self, genome: Genome) -> bool:
        return not self.bounds or bool((self.excess(self.costs.totals(genome.levels)) <= 0).all())

    def fits(self, levels: Ints) -> Bools:
        """Which level vectors meet all limits, (genomes, units) -> (genomes,)."""
        fits: Bools = np.all(self.excess(self.costs.totals(levels)) <= 0, axis=1)
        return fits

    def with_limits(self, limits: Iterable[Limit]) -> Space:
        limited = Space(self.units, self.parts, self.bytes_per_weight, tuple(limits))
        for shared in ("costs", "dense_costs", "prunable", "max_levels"):  # what limits do not change
            limited.__dict__[shared] = getattr(self, shared)
        return limited

    def with_nonzeros(self, measured: Mapping[str, Sequence[Sequence[int]]]) -> Space:
        """The same space with measured nonzeros for the named parts."""
        parts = tuple(p.with_nonzeros(measured[p.name]) if p.name in measured else p for p in self.parts)
        return Space(self.units, parts, self.bytes_per_weight, self.limits)

    def check(self) -> None:
        """Raise InputError SS106 where no genome meets a limit, SS108 where there is nothing to choose."""
        if not self.max_levels.any():
            raise problem("SS108", "the space has one genome, the dense model.", fix="Give its units more levels.")
        smallest = self.costs.named(self.smallest.levels)
        for bound in self.bounds:
            if smallest[bound.cost] > bound.maximum:
                dense = self.dense_costs[bound.cost]
                raise problem(
                    "SS106",
                    f"limit {bound.text} cannot be met: it allows {amount(bound.cost, bound.maximum)}, the smallest "
                    f"candidate keeps {amount(bound.cost, smallest[bound.cost])} of {amount(bound.cost, dense)} "
                    f"({smallest[bound.cost] / dense:.1%}).",
                    fix=f"{self._largest_rest(bound.cost)}Add smaller levels or units, or raise the limit.",
                )
        grown = self.excess(self.costs.neighbours(self.max_levels, -1))
        if self.bounds and not ((grown <= 0).all(axis=1) & (self.max_levels > 0)).any():
            limits = ", ".join(bound.text for bound in self.bounds)
            raise problem(
                "SS108",
                f"{limits} leaves one genome, the smallest; there is nothing to search.",
                fix="Raise the limit, or give units smaller levels.",
            )

    def _largest_rest(self, cost: str) -> str:
        """Where most of a cost is left in the smallest genome; nothing of one that is put together from pieces."""
        if cost in MEASURED:
            return ""
        rests, fixed = (costs[..., cost_index(cost)] for costs in self.costs.by_unit(self.max_levels))
        most = int(np.argmax(rests))
        return (
            f"Of that, {rests[most]:,} are in {self.units[most].name}, which keeps {self.units[most].levels[-1]:,} of "
            f"{self.units[most].total:,}, and {fixed:,} where no unit is. "
        )

    def describe(self, genome: Genome) -> dict[str, int]:
        """Elements kept at each unit that is not dense, by unit name."""
        return {u.name: u.levels[i] for u, i in zip(self.units, genome.levels.tolist(), strict=True) if i}

    def to_json(self) -> dict[str, Any]:
        return {
            "units": [asdict(u) for u in self.units],
            "parts": [_part_json(p) for p in self.parts],
            "bytes_per_weight": self.bytes_per_weight,
            "limits": [limit.text for limit in self.limits],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Space:
        """The space that `to_json` wrote."""
        units = tuple(Unit(**{**u, "levels": tuple(u["levels"])}) for u in data["units"])
        parts = tuple(
            Part(
                **{
                    **p,
                    **{key: tuple(p[key]) for key in ("params", "macs", "kv_bytes", "cuts", *MEASURED) if key in p},
                    "nonzeros": tuple(tuple(row) for row in p["nonzeros"]),
                }
            )
            for p in data["parts"]
        )
        return cls(units, parts, data["bytes_per_weight"], tuple(Limit.parse(text) for text in data["limits"]))

    def canonical(self) -> str:
        """A text that is equal for equal spaces, for fingerprints."""
        return json.dumps(self.to_json(), sort_keys=True)


def _part_json(part: Part) -> dict[str, Any]:
    """What was not measured is left out, so that spaces without it have the fingerprints that they always had."""
    return {key: value for key, value in asdict(part).items() if value or key not in MEASURED}
