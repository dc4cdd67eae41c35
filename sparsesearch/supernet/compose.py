"""A tensor of the network at any combination of the levels that touch it.

If cuts and a sparsity level meet in one matrix, the cut comes first and the mask applies inside it: slices that a cut
removes are left out; a matrix that reads the cut elements takes the cut's refitted columns plus the sparsity level's
weight updates, and keeps the mask of the sparsity level. The updates are added because each is a small correction of
the same dense weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from sparsesearch.models.network import Cut, Matrix, Network, Slot, sparsity_unit_name
from sparsesearch.models.parameter_costs import compensated_matrices
from sparsesearch.pruning import bias_shift
from sparsesearch.space import Genome, Space, Unit
from sparsesearch.supernet.store import UnitFiles

# Levels of (sparsity, first cut, second cut, ...) of one tensor, for the cuts of its plan.
TensorLevels = tuple[int, ...]


@dataclass(frozen=True)
class CutUse:
    """One cut's slices of one tensor.

    Attributes:
        cut, slot: the cut, and the positions of its elements in the tensor.
        unit, position: the cut's unit and its position in the genome.
        reader: index of the tensor among the cut's readers; -1 if the cut only leaves slices out.
    """

    cut: Cut
    slot: Slot
    unit: Unit
    position: int
    reader: int


@dataclass(frozen=True)
class TensorPlan:
    """The units that touch one tensor.

    Attributes:
        name: the tensor's dotted path.
        matrix: the matrix of the tensor, if it is one.
        sparsity, sparsity_position: its sparsity unit and this unit's position in the genome; -1 if it has none.
        uses: the cuts that touch it.
        compensates: for a bias that compensates pruning, the matrix of the same module, whose uses it shares.
    """

    name: str
    matrix: Matrix | None
    sparsity: Unit | None
    sparsity_position: int
    uses: tuple[CutUse, ...]
    compensates: Matrix | None = None


class Composer:
    """Composes tensors at any levels from the dense network and the unit files."""

    def __init__(self, model: Any, network: Network, space: Space, files: UnitFiles, compensate: bool = False) -> None:
        self.network, self.files = network, files
        position = {unit.name: i for i, unit in enumerate(space.units)}
        self.running_statistics = _running_statistics(model)
        self.plans = {plan.name: plan for plan in _plans(network, space, position, self.running_statistics)}
        if compensate:
            for name, matrix in compensated_matrices(network, position).items():
                self.plans[name] = replace(self.plans[matrix.name], name=name, matrix=None, compensates=matrix)
        # Biases that the dense network does not have.
        self.added = [name for name, plan in self.plans.items() if plan.compensates and name not in network.shapes]
        dense = [name for name in self.plans if name not in self.added]
        self.dense: dict[str, torch.Tensor] = {name: _tensor(model, name) for name in dense}
        # Copies, since re-estimation writes into the network's own.
        self.dense |= {name: self.dense[name].clone() for name in self.running_statistics}
        self._drops = {d.name: position[d.name] for d in network.drops.values() if d.name in position}
        self._positions: dict[tuple[str, int, int], torch.Tensor] = {}
        self._masks: dict[tuple[str, int, int], torch.Tensor] = {}
        self._sorted: dict[tuple[str, int, int], torch.Tensor] = {}

    def is_dropped(self, genome: Genome, drop: str) -> bool:
        """Return whether the genome drops the sublayer of a unit."""
        return drop in self._drops and bool(genome.levels[self._drops[drop]])

    def levels(self, genome: Genome, name: str) -> TensorLevels:
        """Return the levels of the units that touch a tensor."""
        plan = self.plans[name]
        sparsity = int(genome.levels[plan.sparsity_position]) if plan.sparsity else 0
        return (sparsity, *(int(genome.levels[use.position]) for use in plan.uses))

    def counts(self, name: str) -> tuple[int, ...]:
        """Return the number of levels of each unit that touches a tensor."""
        plan = self.plans[name]
        return (len(plan.sparsity.levels) if plan.sparsity else 1, *(len(use.unit.levels) for use in plan.uses))

    def combinations(self, name: str) -> Iterator[TensorLevels]:
        """Yield all combinations of a tensor's levels, in the order of a cost part's tables."""
        return itertools.product(*(range(count) for count in self.counts(name)))

    def kept_fraction(self, name: str, levels: TensorLevels) -> float:
        """Return the product of the fractions that the levels keep, in [0, 1]."""
        plan, fraction = self.plans[name], 1.0
        units = [plan.sparsity, *(use.unit for use in plan.uses)]
        for unit, level in zip(units, levels, strict=True):
            if unit is not None:
                fraction *= 1.0 - unit.removed_fraction(level)
        return fraction

    def kept_positions(self, use: CutUse, level: int) -> torch.Tensor:
        """Return the positions along the slot's axis of the elements kept at a cut level >= 1 (`Slot.positions_of`).

        They are on the device of the slot's tensor.
        """
        key = (use.unit.name, level, id(use.slot))
        if key not in self._positions:
            kept = use.slot.positions_of(self.files.kept(use.unit, level, use.cut.elements))
            self._positions[key] = kept.to(self.dense[use.slot.tensor].device)
        return self._positions[key]

    def tensor(self, name: str, levels: TensorLevels) -> torch.Tensor | None:
        """Return the tensor with removed slices left out; unchanged tensors are not copied.

        None for a bias that only compensates pruning, at dense levels.
        """
        plan = self.plans[name]
        return self._weight(name, levels) if plan.compensates is None else self._bias(plan, levels)

    def _bias(self, plan: TensorPlan, levels: TensorLevels, padded: bool = False) -> torch.Tensor | None:
        """Return b + (W - pruned W) E[x], which preserves mean outputs over calibration data, of the kept rows."""
        if not any(levels):
            return self.dense.get(plan.name)
        bias = self._full_bias(plan, levels)
        stays = torch.ones(len(bias), dtype=torch.bool)
        for use, level in zip(plan.uses, levels[1:], strict=True):
            if level and use.reader < 0:
                stays &= self._kept_mask(use, level, len(bias))
        stays = stays.to(bias.device)
        return bias * stays if padded else bias[stays]

    def _full_bias(self, plan: TensorPlan, levels: TensorLevels) -> torch.Tensor:
        matrix = plan.compensates
        assert matrix is not None
        # Cut rows do not change the mean of the kept rows.
        input_levels = [level if use.reader >= 0 else 0 for use, level in zip(plan.uses, levels[1:], strict=True)]
        weight, pruned = self.dense[matrix.name], self.padded_weight(matrix.name, (levels[0], *input_levels))
        mean = self.files.mean(matrix).to(weight.device)
        shift = bias_shift(matrix.view(weight.float()), matrix.view(pruned.float()), mean).flatten().to(weight.dtype)
        bias = self.dense.get(plan.name)
        return shift if bias is None else bias + shift

    def slice_value(self, name: str, genome: Genome, value: torch.Tensor) -> torch.Tensor:
        """Return the positions kept by a genome's cuts, of a value of a tensor's dense shape."""
        uses = self.plans[name].uses
        active = [(use, int(genome.levels[use.position])) for use in uses if genome.levels[use.position]]
        for axis, positions in self._axis_positions(name, active).items():
            value = value.index_select(axis, positions.to(value.device))
        return value

    def _weight(self, name: str, levels: TensorLevels) -> torch.Tensor:
        plan, sparsity = self.plans[name], levels[0]
        active = [(use, level) for use, level in zip(plan.uses, levels[1:], strict=True) if level]
        value, sliced_axes = self._sparse(plan, sparsity), set()
        for use, level in active:
            if use.reader >= 0:
                value = self._refit(plan, value, sparsity, use, level)
                sliced_axes |= {use.slot.axis} if use.slot.covers(self.dense[name].shape[use.slot.axis]) else set()
        # Batched slots first, since they need all slices of axis 0.
        for use, level in active:
            if use.slot.batched and use.slot.axis not in sliced_axes:
                value = select(value, use.slot, self.kept_positions(use, level))
        for axis, positions in self._axis_positions(name, active).items():
            if axis not in sliced_axes:
                value = value.index_select(axis, positions.to(value.device))
        return value

    def _axis_positions(self, name: str, active: list[tuple[CutUse, int]]) -> dict[int, torch.Tensor]:
        """Return for each axis with cuts that are not batched its kept positions, ascending, on the tensor's device."""
        dense = self.dense[name]
        by_axis: dict[int, list[tuple[CutUse, int]]] = {}
        for use, level in active:
            if not use.slot.batched:
                by_axis.setdefault(use.slot.axis, []).append((use, level))
        positions = {}
        for axis, cuts in by_axis.items():
            (use, level), size = cuts[0], dense.shape[axis]
            if len(cuts) == 1:
                positions[axis] = self._sorted_positions(use, level, size, dense.device)
            else:
                stays = torch.stack([self._kept_mask(use, level, size) for use, level in cuts]).all(dim=0)
                positions[axis] = stays.nonzero().flatten().to(dense.device)
        return positions

    def _sorted_positions(self, use: CutUse, level: int, size: int, device: torch.device) -> torch.Tensor:
        """Return the positions that a cut level >= 1 keeps along the slot's axis, ascending, on a device."""
        key = (use.unit.name, level, id(use.slot))
        if key not in self._sorted:
            self._sorted[key] = self._kept_mask(use, level, size).nonzero().flatten().to(device)
        return self._sorted[key]

    def _kept_mask(self, use: CutUse, level: int, size: int) -> torch.Tensor:
        """Return the mask of the positions that a cut level >= 1 keeps along the slot's axis, (size,)."""
        key = (use.unit.name, level, id(use.slot))
        if key not in self._masks:
            kept = self.files.kept(use.unit, level, use.cut.elements)
            self._masks[key] = use.slot.mask_of(kept, size)
        return self._masks[key]

    def _sparse(self, plan: TensorPlan, level: int) -> torch.Tensor:
        dense = self.dense[plan.name]
        if level == 0 or plan.sparsity is None:
            return dense
        return self.files.sparse(plan.sparsity, level, tuple(dense.shape)).to(dense.device, dense.dtype)

    def _refit(self, plan: TensorPlan, value: torch.Tensor, sparsity: int, use: CutUse, level: int) -> torch.Tensor:
        """Return the tensor with a cut's kept columns refitted: only these if the cut covers the axis, else all."""
        matrix = plan.matrix
        assert matrix is not None
        stored, kept = self.files.cut(use.unit, level, use.reader), self.kept_positions(use, level)
        refitted = stored.to(value.device, value.dtype)
        if sparsity:
            sparse = matrix.view(select(value, use.slot, kept))
            dense = matrix.view(select(self.dense[plan.name], use.slot, kept))
            both = torch.where(sparse != 0, refitted + (sparse - dense), 0.0)
            # Rounded to the storage type, so that an export holds exactly the evaluated weights.
            refitted = both.to(stored.dtype).to(value.dtype)
        columns = matrix.unview(refitted)
        if use.slot.covers(value.shape[use.slot.axis]):
            return columns
        return value.index_copy(use.slot.axis, kept.to(value.device), columns)

    def padded_tensor(self, name: str, levels: TensorLevels) -> torch.Tensor | None:
        """Return the tensor in its dense shape, with zeros for cut slices; None as for `tensor`."""
        plan = self.plans[name]
        return self.padded_weight(name, levels) if plan.compensates is None else self._bias(plan, levels, padded=True)

    def padded_weight(self, name: str, levels: TensorLevels) -> torch.Tensor:
        """Return a tensor that is no compensating bias in its dense shape, with zeros for cut slices."""
        return self._pad(name, levels, self._weight(name, levels))

    def pad_value(self, name: str, genome: Genome, value: torch.Tensor) -> torch.Tensor:
        """Return a value of a tensor's shape in a genome in the dense shape, with zeros for cut slices."""
        return self._pad(name, self.levels(genome, name), value)

    def _pad(self, name: str, levels: TensorLevels, value: torch.Tensor) -> torch.Tensor:
        dense = self.dense[name]
        active = [(use, level) for use, level in zip(self.plans[name].uses, levels[1:], strict=True) if level]
        shape = list(value.shape)
        for axis, positions in self._axis_positions(name, active).items():
            shape[axis] = dense.shape[axis]
            value = value.new_zeros(shape).index_copy_(axis, positions.to(value.device), value)
        for use, level in active:
            if use.slot.batched:
                shape[use.slot.axis] = dense.shape[use.slot.axis]
                positions = self.kept_positions(use, level).to(value.device)
                index = _along(positions, use.slot.axis, value.ndim).expand_as(value)
                value = value.new_zeros(shape).scatter_(use.slot.axis, index, value)
        return value


def _tensor(model: Any, name: str) -> torch.Tensor:
    path, _, leaf = name.rpartition(".")
    tensor: torch.Tensor = getattr(model.get_submodule(path), leaf)
    return tensor.data


def _running_statistics(model: Any) -> list[str]:
    """Return the names of running statistics, which are re-estimated for every candidate and must be restored."""
    modules = [(path, module._buffers) for path, module in model.named_modules()]
    leaves = ("running_mean", "running_var")
    return [f"{path}.{leaf}" for path, buffers in modules for leaf in leaves if buffers.get(leaf) is not None]


def _plans(
    network: Network, space: Space, position: dict[str, int], running_statistics: list[str]
) -> Iterator[TensorPlan]:
    units = {unit.name: unit for unit in space.units}
    uses: dict[str, list[CutUse]] = {}
    for cut in network.cuts.values():
        if cut.name not in units:
            continue
        for slot, reader in [*((s, -1) for s in cut.writers), *((s, i) for i, s in enumerate(cut.readers))]:
            use = CutUse(cut, slot, units[cut.name], position[cut.name], reader)
            uses.setdefault(slot.tensor, []).append(use)
    # Outputs that a drop sets to zero need a plan even if no other unit touches them.
    outputs = [name for drop in network.drops.values() if drop.name in units for name in drop.outputs]
    for name in dict.fromkeys((*network.matrices, *uses, *outputs, *running_statistics)):
        matrix = network.matrices.get(name)
        sparsity = units.get(sparsity_unit_name(matrix)) if matrix else None
        sparsity_position = position[sparsity.name] if sparsity else -1
        yield TensorPlan(name, matrix, sparsity, sparsity_position, tuple(uses.get(name, ())))


def select(value: torch.Tensor, slot: Slot, kept: torch.Tensor) -> torch.Tensor:
    """Return the positions of a tensor along a slot's axis that its kept elements have (`Slot.positions_of`).

    Args:
        value: a tensor in its dense shape along the axis.
        slot: the axis.
        kept: the positions, (positions,), or (slices of axis 0, positions) if the slot is batched.
    """
    kept = kept.to(value.device)
    if not slot.batched:
        return value.index_select(slot.axis, kept)
    return value.take_along_dim(_along(kept, slot.axis, value.ndim), dim=slot.axis)


def _along(kept: torch.Tensor, axis: int, ndim: int) -> torch.Tensor:
    """Return positions (slices of axis 0, positions), reshaped to index a tensor along an axis >= 1."""
    shape = [kept.shape[0]] + [1] * (ndim - 1)
    shape[axis] = kept.shape[1]
    return kept.view(shape)
