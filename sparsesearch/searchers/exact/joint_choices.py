"""Joint choices of units that share tensors, with exact joint costs, since costs of such units are not additive."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sparsesearch.arrays import Floats, Ints
from sparsesearch.errors import problem
from sparsesearch.searchers.exact.additive import Table
from sparsesearch.space import Part, Space
from sparsesearch.space.cost import CostModel

# Lowest and highest level of each unit, (units,) each.
Box = tuple[Ints, Ints]
MAX_JOINT_CHOICES = 1_000_000


@dataclass(frozen=True)
class JointChoices:
    """Units that share tensors, joint levels of them, and exact costs of the tensors that they touch.

    Attributes:
        units: indices in the space, (units,).
        levels: (choices, units); all combinations, dense first, unless restricted.
        costs: costs in the order of `COSTS`, (choices, costs).
    """

    units: tuple[int, ...]
    levels: Ints
    costs: Ints

    def restrict(self, box: Box | None) -> JointChoices:
        """Return only the choices whose levels are in the box; all without one.

        Args:
            box: lowest and highest level of each unit of the space, (units,) each.
        """
        if box is None:
            return self
        low, high = (bound[list(self.units)] for bound in box)
        inside = ((self.levels >= low) & (self.levels <= high)).all(axis=1)
        return JointChoices(self.units, self.levels[inside], self.costs[inside])

    def harm(self, table: Table) -> Floats:
        """Return the predicted rise of the loss of each choice, (choices,)."""
        return np.asarray(np.sum([table[unit][self.levels[:, i]] for i, unit in enumerate(self.units)], axis=0))


def joint_choices(space: Space, units: Sequence[int], parts: Sequence[Part]) -> JointChoices:
    """Return all joint levels of some units, with the costs of some parts.

    Raises InputError SS112 if there are more than `MAX_JOINT_CHOICES`.
    """
    members = [space.units[u] for u in units]
    count = math.prod(len(unit.levels) for unit in members)
    if count > MAX_JOINT_CHOICES:
        raise problem(
            "SS112",
            f"{members[0].name} and {len(members) - 1} units that share tensors with it have {count:,} joint choices; "
            f"at most {MAX_JOINT_CHOICES:,} are allowed.",
            fix="Give them fewer levels, or use another searcher.",
        )
    levels = np.array(list(itertools.product(*(range(len(unit.levels)) for unit in members))), dtype=np.int64)
    model = CostModel(members, parts, space.bytes_per_weight)
    totals = [model.totals(chunk) for chunk in np.array_split(levels, max(1, count // 10_000))]
    return JointChoices(tuple(units), levels, np.concatenate(totals))


def units_by_part(space: Space) -> list[tuple[int, ...]]:
    """Return for each part the indices of the units whose levels change its cost, ascending."""
    position = {unit.name: i for i, unit in enumerate(space.units)}
    names = [(*part.cuts, part.sparsity, part.drop) for part in space.parts]
    return [tuple(sorted({position[n] for n in part_names if n is not None})) for part_names in names]


def independent_groups(space: Space) -> list[JointChoices]:
    """Return all units in groups whose costs add up; raises InputError SS112 for a group of too many joint choices."""
    units_of_parts = units_by_part(space)
    pairs = np.array([(units[0], unit) for units in units_of_parts for unit in units[1:]], dtype=np.int64).reshape(
        -1, 2
    )
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(space.units),) * 2)
    count, label = connected_components(graph, directed=False)
    parts: list[list[Part]] = [[] for _ in range(count)]
    for part, units in zip(space.parts, units_of_parts, strict=True):
        if units:
            parts[label[units[0]]].append(part)
    return [joint_choices(space, np.flatnonzero(label == i).tolist(), parts[i]) for i in range(count)]
