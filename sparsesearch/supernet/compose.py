"""A tensor of the network at any combination of the levels that touch it.

Where cuts and a sparsity level meet in one matrix, the cut comes first and the mask works inside it: slices that a cut
removes are simply left out; a matrix that reads the cut elements takes the cut's refitted columns plus the sparsity
level's own weight updates, and keeps the mask of the sparsity level. The updates add up because each is a small
correction of the same dense weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from sparsesearch.models.network import Cut, Matrix, Network, Slot, sparsity_unit_name
from sparsesearch.models.parameter_costs import compensated
from sparsesearch.pruning import bias_shift
from sparsesearch.space import Genome, Space, Unit
from sparsesearch.supernet.store import UnitFiles

# Levels of (sparsity, first cut, second cut, ...) of one tensor, as many as its plan has cuts.
TensorLevels = tuple[int, ...]


@dataclass(frozen=True)
class Use:
    """How one cut holds one tensor.

    Attributes:
        unit, position: the cut's unit and its place in the genome.
        reader: which of the cut's readers the tensor is; -1 where the cut only leaves slices out.
    """

    cut: Cut
    slot: Slot
    unit: Unit
    position: int
    reader: int


@dataclass(frozen=True)
class Plan:
    """Everything that touches one tensor.

    Attributes:
        matrix: what the tensor is, if it is a matrix.
        sparsity, sparsity_position: its sparsity unit and that unit's place in the genome; -1 where it has none.
        uses: of cuts.
        compensates: for a bias that makes up for pruning: the matrix beside it, whose uses are also its own.
    """

    name: str
    matrix: Matrix | None
    sparsity: Unit | None
    sparsity_position: int
    uses: tuple[Use, ...]
    compensates: Matrix | None = None


class Composer:
    """Tensors at any levels, from the dense network and the unit files."""

    def __init__(self, model: Any, network: Network, space: Space, files: UnitFiles, compensate: bool = False) -> None:
        self.network, self.files = network, files
        position = {unit.name: i for i, unit in enumerate(space.units)}
        self.norms = _norms(model)
        self.plans = {plan.name: plan for plan in _plans(network, space, position, self.norms)}
        if compensate:
            for name, matrix in compensated(network, position).items():
                self.plans[name] = replace(self.plans[matrix.name], name=name, matrix=None, compensates=matrix)
        # Biases that the network does not have: there is nothing of them at dense levels.
        self.added = [name for name, plan in self.plans.items() if plan.compensates and name not in network.shapes]
        dense = [name for name in self.plans if name not in self.added]
        self.dense: dict[str, torch.Tensor] = {name: _tensor(model, name) for name in dense}
        # Measuring them again writes into the network's own.
        self.dense |= {name: self.dense[name].clone() for name in self.norms}
        self._drops = {d.name: position[d.name] for d in network.drops.values() if d.name in position}
        self._kept: dict[tuple[str, int, int], torch.Tensor] = {}
        self._stays: dict[tuple[str, int, int], torch.Tensor] = {}

    def dropped(self, genome: Genome, drop: str) -> bool:
        """Whether the genome drops the sublayer of that unit."""
        return drop in self._drops and bool(genome.levels[self._drops[drop]])

    def levels(self, genome: Genome, name: str) -> TensorLevels:
        """The levels of everything that touches a tensor."""
        plan = self.plans[name]
        sparsity = int(genome.levels[plan.sparsity_position]) if plan.sparsity else 0
        return (sparsity, *(int(genome.levels[use.position]) for use in plan.uses))

    def counts(self, name: str) -> tuple[int, ...]:
        """How many levels each of them has."""
        plan = self.plans[name]
        return (len(plan.sparsity.levels) if plan.sparsity else 1, *(len(use.unit.levels) for use in plan.uses))

    def combinations(self, name: str) -> Iterator[TensorLevels]:
        """All combinations of levels, in the order of a cost part's tables."""
        return itertools.product(*(range(count) for count in self.counts(name)))

    def kept_fraction(self, name: str, levels: TensorLevels) -> float:
        """Product of the fractions that the levels keep."""
        plan, fraction = self.plans[name], 1.0
        units = [plan.sparsity, *(use.unit for use in plan.uses)]
        for unit, level in zip(units, levels, strict=True):
            if unit is not None:
                fraction *= 1.0 - unit.removed(level)
        return fraction

    def kept(self, use: Use, level: int) -> torch.Tensor:
        """The positions along the slot's axis that elements kept at a cut level >= 1 have (`Slot.own`)."""
        key = (use.unit.name, level, id(use.slot))
        if key not in self._kept:
            self._kept[key] = use.slot.positions_of(self.files.kept(use.unit, level, use.cut.elements))
        return self._kept[key]

    def tensor(self, name: str, levels: TensorLevels) -> torch.Tensor | None:
        """The tensor with removed slices left out; never a copy of more than what changed.

        None for a bias that only compensates, where there is nothing to make up for.
        """
        plan = self.plans[name]
        return self._weight(name, levels) if plan.compensates is None else self._bias(plan, levels)

    def _bias(self, plan: Plan, levels: TensorLevels, padded: bool = False) -> torch.Tensor | None:
        """b + (W - pruned W) E[x], so that mean outputs over calibration data stay, for the rows that stay."""
        if not any(levels):
            return self.dense.get(plan.name)
        bias = self._full_bias(plan, levels)
        stays = torch.ones(len(bias), dtype=torch.bool)
        for use, level in zip(plan.uses, levels[1:], strict=True):
            if level and use.reader < 0:
                stays &= self._stay(use, level, len(bias))
        stays = stays.to(bias.device)
        return bias * stays if padded else bias[stays]

    def _full_bias(self, plan: Plan, levels: TensorLevels) -> torch.Tensor:
        matrix = plan.compensates
        assert matrix is not None
        # Cut rows do not change the mean of those that stay.
        inward = [level if use.reader >= 0 else 0 for use, level in zip(plan.uses, levels[1:], strict=True)]
        weight, pruned = self.dense[matrix.name], self.padded_weight(matrix.name, (levels[0], *inward))
        mean = self.files.mean(matrix).to(weight.device)
        shift = bias_shift(matrix.view(weight.float()), matrix.view(pruned.float()), mean).flatten().to(weight.dtype)
        bias = self.dense.get(plan.name)
        return shift if bias is None else bias + shift

    def part(self, name: str, genome: Genome, value: torch.Tensor) -> torch.Tensor:
        """What a genome's cuts leave of something that has a value for each of a tensor's positions."""
        uses = self.plans[name].uses
        active = [(use, int(genome.levels[use.position])) for use in uses if genome.levels[use.position]]
        for axis, stays in self._staying(name, active).items():
            value = value.index_select(axis, stays.nonzero().flatten().to(value.device))
        return value

    def _weight(self, name: str, levels: TensorLevels) -> torch.Tensor:
        plan, sparsity = self.plans[name], levels[0]
        active = [(use, level) for use, level in zip(plan.uses, levels[1:], strict=True) if level]
        value, narrowed = self._sparse(plan, sparsity), set()
        for use, level in active:
            if use.reader >= 0:
                value = self._refitted(plan, value, sparsity, use, level)
                narrowed |= {use.slot.axis} if use.slot.covers(self.dense[name].shape[use.slot.axis]) else set()
        # Slices of axis 0 are still all there while each selects for itself.
        for use, level in active:
            if use.slot.batched and use.slot.axis not in narrowed:
                value = select(value, use.slot, self.kept(use, level))
        for axis, stays in self._staying(name, active).items():
            if axis not in narrowed:
                value = value.index_select(axis, stays.nonzero().flatten().to(value.device))
        return value

    def _staying(self, name: str, active: list[tuple[Use, int]]) -> dict[int, torch.Tensor]:
        """For each axis that is cut along the whole tensor, which of its positions stay."""
        found: dict[int, torch.Tensor] = {}
        for use, level in active:
            if not use.slot.batched:
                axis = use.slot.axis
                stays = self._stay(use, level, self.dense[name].shape[axis])
                found[axis] = found[axis] & stays if axis in found else stays
        return found

    def _stay(self, use: Use, level: int, full: int) -> torch.Tensor:
        """Which of the `full` positions along the slot's axis a cut level >= 1 leaves, bool."""
        key = (use.unit.name, level, id(use.slot))
        if key not in self._stays:
            kept = self.files.kept(use.unit, level, use.cut.elements)
            self._stays[key] = use.slot.staying(kept, full)
        return self._stays[key]

    def _sparse(self, plan: Plan, level: int) -> torch.Tensor:
        dense = self.dense[plan.name]
        if level == 0 or plan.sparsity is None:
            return dense
        return self.files.sparse(plan.sparsity, level, tuple(dense.shape)).to(dense.device, dense.dtype)

    def _refitted(self, plan: Plan, value: torch.Tensor, sparsity: int, use: Use, level: int) -> torch.Tensor:
        """The tensor with a cut's kept columns refitted: those alone where the cut covers the axis, else in place."""
        matrix = plan.matrix
        assert matrix is not None
        stored, kept = self.files.cut(use.unit, level, use.reader), self.kept(use, level)
        refitted = stored.to(value.device, value.dtype)
        if sparsity:
            inside = matrix.view(select(value, use.slot, kept))
            dense = matrix.view(select(self.dense[plan.name], use.slot, kept))
            both = torch.where(inside != 0, refitted + (inside - dense), 0.0)
            # Rounded to the storage type: what is evaluated is what an export can hold.
            refitted = both.to(stored.dtype).to(value.dtype)
        columns = matrix.unview(refitted)
        if use.slot.covers(value.shape[use.slot.axis]):
            return columns
        return value.index_copy(use.slot.axis, kept.to(value.device), columns)

    def padded(self, name: str, levels: TensorLevels) -> torch.Tensor | None:
        """The tensor in its dense shape, zeros where slices are cut; None as for `tensor`."""
        plan = self.plans[name]
        return self.padded_weight(name, levels) if plan.compensates is None else self._bias(plan, levels, padded=True)

    def padded_weight(self, name: str, levels: TensorLevels) -> torch.Tensor:
        """The same for what is no bias that compensates."""
        return self._spread(name, levels, self._weight(name, levels))

    def spread(self, name: str, genome: Genome, value: torch.Tensor) -> torch.Tensor:
        """What has a value for each weight that a genome's cuts leave, in the dense shape, zeros elsewhere."""
        return self._spread(name, self.levels(genome, name), value)

    def _spread(self, name: str, levels: TensorLevels, value: torch.Tensor) -> torch.Tensor:
        dense = self.dense[name]
        active = [(use, level) for use, level in zip(self.plans[name].uses, levels[1:], strict=True) if level]
        shape = list(value.shape)
        for axis, stays in self._staying(name, active).items():
            shape[axis] = dense.shape[axis]
            positions = stays.nonzero().flatten().to(value.device)
            value = value.new_zeros(shape).index_copy_(axis, positions, value)
        for use, level in active:
            if use.slot.batched:
                shape[use.slot.axis] = dense.shape[use.slot.axis]
                index = _along(self.kept(use, level).to(value.device), use.slot.axis, value.ndim).expand_as(value)
                value = value.new_zeros(shape).scatter_(use.slot.axis, index, value)
        return value


def _tensor(model: Any, name: str) -> torch.Tensor:
    path, _, leaf = name.rpartition(".")
    tensor: torch.Tensor = getattr(model.get_submodule(path), leaf)
    return tensor.data


def _norms(model: Any) -> list[str]:
    """Running statistics, which are measured again for every candidate and have to come back."""
    modules = [(path, module._buffers) for path, module in model.named_modules()]
    leaves = ("running_mean", "running_var")
    return [f"{path}.{leaf}" for path, buffers in modules for leaf in leaves if buffers.get(leaf) is not None]


def _plans(network: Network, space: Space, position: dict[str, int], norms: list[str]) -> Iterator[Plan]:
    units = {unit.name: unit for unit in space.units}
    uses: dict[str, list[Use]] = {}
    for cut in network.cuts.values():
        if cut.name not in units:
            continue
        for slot, reader in [*((s, -1) for s in cut.writers), *((s, i) for i, s in enumerate(cut.readers))]:
            uses.setdefault(slot.tensor, []).append(Use(cut, slot, units[cut.name], position[cut.name], reader))
    # Outputs that a drop silences are swapped like the rest, also where nothing else touches them.
    outputs = [name for drop in network.drops.values() if drop.name in units for name in drop.outputs]
    for name in dict.fromkeys((*network.matrices, *uses, *outputs, *norms)):
        matrix = network.matrices.get(name)
        sparsity = units.get(sparsity_unit_name(matrix)) if matrix else None
        where = position[sparsity.name] if sparsity else -1
        yield Plan(name, matrix, sparsity, where, tuple(uses.get(name, ())))


def select(value: torch.Tensor, slot: Slot, kept: torch.Tensor) -> torch.Tensor:
    """The positions of a tensor that a slot's kept elements have (`Slot.own`)."""
    kept = kept.to(value.device)
    if not slot.batched:
        return value.index_select(slot.axis, kept)
    return value.take_along_dim(_along(kept, slot.axis, value.ndim), dim=slot.axis)


def _along(kept: torch.Tensor, axis: int, ndim: int) -> torch.Tensor:
    """Positions (slices of axis 0, positions) shaped to index a tensor along an axis >= 1."""
    shape = [kept.shape[0]] + [1] * (ndim - 1)
    shape[axis] = kept.shape[1]
    return kept.view(shape)
