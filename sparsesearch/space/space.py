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
from sparsesearch.space.cost import MEASURED, CostModel, Part, cost_index, format_cost
from sparsesearch.space.genome import Genome
from sparsesearch.space.limit import Bound, Limit
from sparsesearch.space.unit import Unit


@dataclass(frozen=True)
class Space:
    """The units of a search, the costs of their levels, and the limits on costs.

    Attributes:
        units: the choices, in genome order.
        parts: the model's tensors with their costs at every level.
        bytes_per_weight: size of the checkpoint's data type.
        limits: limits as written in the recipe.
    """

    units: tuple[Unit, ...]
    parts: tuple[Part, ...]
    bytes_per_weight: int
    limits: tuple[Limit, ...] = ()

    @cached_property
    def costs(self) -> CostModel:
        """Costs of every genome."""
        return CostModel(self.units, self.parts, self.bytes_per_weight)

    @cached_property
    def max_levels(self) -> Ints:
        """Highest level of each unit, that of the smallest model, shape (units,)."""
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
    def removed_fractions(self) -> list[Floats]:
        """For each unit, the fraction of its elements removed at each of its levels, (levels,)."""
        return [np.array([u.removed_fraction(i) for i in range(len(u.levels))]) for u in self.units]

    @cached_property
    def dense(self) -> Genome:
        """The genome of the dense model."""
        return Genome.of(np.zeros(len(self.units), dtype=np.int16))

    @cached_property
    def smallest(self) -> Genome:
        """The genome with every unit at its highest level."""
        return Genome.of(self.max_levels)

    @cached_property
    def dense_costs(self) -> dict[str, int]:
        """Costs of the dense model by name."""
        return self.costs.named(self.dense.levels)

    @cached_property
    def prunable(self) -> int:
        """Weights of the dense model in matrices that some unit can prune, the base of `sparsity`."""
        return sum(p.params[0] for p in self.parts if p.prunable)

    @cached_property
    def bounds(self) -> tuple[Bound, ...]:
        """The limits as integer bounds on costs."""
        return tuple(limit.bound(self.dense_costs, self.prunable) for limit in self.limits)

    @cached_property
    def _bound_columns(self) -> tuple[npt.NDArray[np.intp], Ints]:
        columns = np.array([cost_index(b.cost) for b in self.bounds], dtype=np.intp)
        return columns, np.array([b.maximum for b in self.bounds], dtype=np.int64)

    @cached_property
    def bound_depends_on_unit(self) -> Bools:
        """Whether the levels of each unit change the cost of each bound, shape (units, bounds)."""
        columns, _ = self._bound_columns
        return self.costs.cost_depends_on_unit[:, columns]

    def excess(self, costs: Ints) -> Ints:
        """Return by how much costs (..., costs) exceed each bound, shape (..., bounds); all <= 0 is feasible."""
        columns, maxima = self._bound_columns
        return costs[..., columns] - maxima

    def feasible(self, genome: Genome) -> bool:
        """Return whether a genome meets every limit."""
        return not self.bounds or bool((self.excess(self.costs.totals(genome.levels)) <= 0).all())

    def feasible_rows(self, levels: Ints) -> Bools:
        """Return which level vectors meet every limit, (genomes, units) -> (genomes,)."""
        return np.asarray(np.all(self.excess(self.costs.totals(levels)) <= 0, axis=1))

    def with_limits(self, limits: Iterable[Limit]) -> Space:
        """Return the same space with other limits."""
        limited = Space(self.units, self.parts, self.bytes_per_weight, tuple(limits))
        for shared in ("costs", "dense_costs", "prunable", "max_levels"):  # these do not depend on limits
            limited.__dict__[shared] = getattr(self, shared)
        return limited

    def with_nonzeros(self, measured: Mapping[str, Sequence[Sequence[int]]]) -> Space:
        """Return the same space with measured nonzeros for the named parts."""
        parts = tuple(p.with_nonzeros(measured[p.name]) if p.name in measured else p for p in self.parts)
        return Space(self.units, parts, self.bytes_per_weight, self.limits)

    def check(self) -> None:
        """Raise InputError SS106 if no genome meets a limit, SS108 if there is only one genome to choose."""
        if not self.max_levels.any():
            raise problem("SS108", "the space has one genome, the dense model.", fix="Give its units more levels.")
        smallest = self.costs.named(self.smallest.levels)
        for bound in self.bounds:
            if smallest[bound.cost] > bound.maximum:
                dense = self.dense_costs[bound.cost]
                raise problem(
                    "SS106",
                    f"limit {bound.text} cannot be met: it allows {format_cost(bound.cost, bound.maximum)}, the "
                    f"smallest candidate keeps {format_cost(bound.cost, smallest[bound.cost])} of "
                    f"{format_cost(bound.cost, dense)} ({smallest[bound.cost] / dense:.1%}).",
                    fix=f"{self._largest_remainder(bound.cost)}Add smaller levels or units, or raise the limit.",
                )
        grown = self.excess(self.costs.neighbours(self.max_levels, -1))
        if self.bounds and not ((grown <= 0).all(axis=1) & (self.max_levels > 0)).any():
            limits = ", ".join(bound.text for bound in self.bounds)
            raise problem(
                "SS108",
                f"{limits} leaves one genome, the smallest: nothing to search.",
                fix="Raise the limit, or give units smaller levels.",
            )

    def _largest_remainder(self, cost: str) -> str:
        """Return a sentence about the unit with most of a cost in the smallest genome; '' for measured costs."""
        if cost in MEASURED:
            return ""
        by_unit, fixed = (costs[..., cost_index(cost)] for costs in self.costs.totals_by_unit(self.max_levels))
        largest = int(np.argmax(by_unit))
        unit = self.units[largest]
        return (
            f"Of that, {by_unit[largest]:,} are in {unit.name}, which keeps {unit.levels[-1]:,} of {unit.total:,}, and "
            f"{fixed:,} are outside all units. "
        )

    def describe(self, genome: Genome) -> dict[str, int]:
        """Return the elements kept at each unit that is not dense, by unit name."""
        return {u.name: u.levels[i] for u, i in zip(self.units, genome.levels.tolist(), strict=True) if i}

    def to_json(self) -> dict[str, Any]:
        """Return the space as a JSON object."""
        return {
            "units": [asdict(u) for u in self.units],
            "parts": [_part_json(p) for p in self.parts],
            "bytes_per_weight": self.bytes_per_weight,
            "limits": [limit.text for limit in self.limits],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Space:
        """Return the space of a JSON object made by `to_json`."""
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

    def canonical_text(self) -> str:
        """Return a text that is equal for equal spaces, for fingerprints."""
        return json.dumps(self.to_json(), sort_keys=True)


def _part_json(part: Part) -> dict[str, Any]:
    """Return a part as JSON; unmeasured costs are left out, so that fingerprints of earlier versions stay the same."""
    return {key: value for key, value in asdict(part).items() if value or key not in MEASURED}
