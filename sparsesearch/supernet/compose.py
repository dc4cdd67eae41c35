"""The weights of one linear at any combination of levels.

Where a cut and a sparsity level meet in one linear, the cut comes first and the mask works inside it: rows that a cut
removes are simply left out; an output linear takes the cut's refitted columns plus the sparsity level's own weight
updates, and keeps the mask of the sparsity level. The updates add up because each is a small correction of the same
dense weights.
"""

from __future__ import annotations

from typing import Any

import torch

from sparsesearch.models.architecture import Architecture, Linear
from sparsesearch.space import Genome, Space, Unit
from sparsesearch.supernet.store import UnitFiles

# Levels of (sparsity, cut) of one linear.
LinearLevels = tuple[int, int]


class Composer:
    """Weights and biases of every linear, from the dense network and the unit files."""

    def __init__(self, model: Any, architecture: Architecture, space: Space, files: UnitFiles) -> None:
        self.architecture, self.files = architecture, files
        self.linears = architecture.linears()
        self.dense: dict[str, torch.Tensor] = {path: model.get_submodule(path).weight.data for path in self.linears}
        self.bias: dict[str, torch.Tensor] = {
            p: model.get_submodule(p).bias.data for p, linear in self.linears.items() if linear.bias
        }
        index = {unit.name: i for i, unit in enumerate(space.units)}
        units = {unit.name: unit for unit in space.units}
        owner = architecture.owner()

        def find(name: str) -> tuple[Unit | None, int]:
            return units.get(name), index.get(name, -1)

        self._sparsity = {path: find(f"{path}.sparsity") for path in self.linears}
        self._cut = {path: find(sublayer.cut_unit) for path, sublayer in owner.items()}
        self._drop = {s.path: find(s.drop_unit)[1] for s in architecture.sublayers}
        self._kept: dict[tuple[str, int, int], torch.Tensor] = {}

    def dropped(self, genome: Genome, sublayer: str) -> bool:
        position = self._drop[sublayer]
        return position >= 0 and bool(genome.levels[position])

    def levels(self, genome: Genome, path: str) -> LinearLevels:
        """The (sparsity, cut) levels of a linear in a genome."""
        sparsity, cut = self._sparsity[path][1], self._cut[path][1]
        return (
            int(genome.levels[sparsity]) if sparsity >= 0 else 0,
            int(genome.levels[cut]) if cut >= 0 else 0,
        )

    def count(self, path: str) -> LinearLevels:
        """How many (sparsity, cut) levels a linear has."""
        sparsity, cut = self._sparsity[path][0], self._cut[path][0]
        return len(sparsity.levels) if sparsity else 1, len(cut.levels) if cut else 1

    def kept_fraction(self, path: str, levels: LinearLevels) -> float:
        """Product of the fractions that a linear's sparsity and cut levels keep."""
        fraction = 1.0
        for unit, level in ((self._sparsity[path][0], levels[0]), (self._cut[path][0], levels[1])):
            if unit is not None:
                fraction *= 1.0 - unit.removed(level)
        return fraction

    def kept(self, linear: Linear, cut_level: int) -> torch.Tensor:
        """The rows or columns of a linear that a cut level >= 1 keeps, ascending."""
        unit = self._cut[linear.path][0]
        assert unit is not None
        key = (unit.name, cut_level, linear.cut_span)
        if key not in self._kept:
            self._kept[key] = self.files.columns(unit, cut_level, linear.cut_span)
        return self._kept[key]

    def _sparse(self, linear: Linear, level: int) -> torch.Tensor:
        dense = self.dense[linear.path]
        unit = self._sparsity[linear.path][0]
        if level == 0 or unit is None:
            return dense
        return self.files.sparse(unit, level, (linear.rows, linear.columns)).to(dense.device, dense.dtype)

    def weight(self, path: str, levels: LinearLevels) -> torch.Tensor:
        """The linear's weight with cut rows or columns left out; never a copy of more than what changed."""
        linear, (sparsity, cut) = self.linears[path], levels
        sparse = self._sparse(linear, sparsity)
        if cut == 0:
            return sparse
        kept = self.kept(linear, cut).to(sparse.device)
        if linear.cut_axis == "rows":
            return sparse[kept]
        unit = self._cut[path][0]
        assert unit is not None
        stored = self.files.cut(unit, cut)
        refitted = stored.to(sparse.device, sparse.dtype)
        if sparsity == 0:
            return refitted
        inside = sparse[:, kept]
        both = torch.where(inside != 0, refitted + (inside - self.dense[path][:, kept]), 0.0)
        # Rounded to the storage type: what is evaluated is what an export can hold.
        return both.to(stored.dtype).to(sparse.dtype)

    def bias_of(self, path: str, levels: LinearLevels) -> torch.Tensor | None:
        """The linear's bias with cut rows left out."""
        linear, bias = self.linears[path], self.bias.get(path)
        if bias is None or levels[1] == 0 or linear.cut_axis == "columns":
            return bias
        return bias[self.kept(linear, levels[1]).to(bias.device)]

    def padded(self, path: str, levels: LinearLevels) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias in their dense shapes, zeros where rows or columns are cut."""
        weight, bias, linear = self.weight(path, levels), self.bias_of(path, levels), self.linears[path]
        if levels[1] == 0:
            return weight, bias
        kept = self.kept(linear, levels[1]).to(weight.device)
        full = weight.new_zeros((linear.rows, linear.columns))
        if linear.cut_axis == "columns":
            full[:, kept] = weight
            return full, bias
        full[kept] = weight
        if bias is not None:
            bias = bias.new_zeros(linear.rows).index_copy_(0, kept, bias)
        return full, bias
