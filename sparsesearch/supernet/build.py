"""Building of the level store, block by block; any worker can build any block whose statistics exist."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparsesearch.calibration import InputStatistics
from sparsesearch.calibration.gradients import load_gradients
from sparsesearch.calibration.statistics import Statistics, load_statistics
from sparsesearch.config import PrunerConfig
from sparsesearch.errors import DamagedFile, problem
from sparsesearch.files import file_hash, read_json, write_json
from sparsesearch.models.network import Cut, Index, Matrix, Network, Slot, sparsity_unit_name
from sparsesearch.pruning import (
    Experts,
    Group,
    Layer,
    Reader,
    Writer,
    expert_order_named,
    layer_error,
    layer_errors,
    structured,
    unstructured,
)
from sparsesearch.space import Space, Unit
from sparsesearch.supernet.compose import Composer
from sparsesearch.supernet.store import (
    UnitFiles,
    check_units,
    means_path,
    unit_path,
    write_cut,
    write_means,
    write_sparse,
)

Entry = dict[str, Any]
# (mean, mean square) by matrix, of its shape.
Gradients = dict[str, tuple[torch.Tensor, torch.Tensor]]


class StoreBuilder:
    """Builds blocks of one store from one network's dense weights."""

    def __init__(
        self,
        model: Any,
        network: Network,
        space: Space,
        pruners: PrunerConfig,
        directory: Path,
        statistics: Path,
        storage: torch.dtype,
        gradients: Path | None = None,
    ) -> None:
        """
        Args:
            model: the dense network.
            network: its description.
            space: the units and their levels.
            pruners: the pruners and their options.
            directory: directory of the store.
            statistics: directory of the calibration pass.
            storage: data type of stored levels.
            gradients: file of the gradient pass, if a pruner needs it.
        """
        self._gradient_file = gradients
        self.model, self.network, self.space = model, network, space
        self.pruners, self.directory, self.storage = pruners, directory, storage
        self.statistics = statistics
        self.composer = Composer(model, network, space, UnitFiles(directory), pruners.compensate)
        self.units = {unit.name: unit for unit in space.units}

    def build(self, block: int) -> None:
        """Write all unit files of a block, then `blocks/NNN.json`; does nothing if they exist and are intact."""
        done = block_path(self.directory, block)
        if self._is_built(done):
            return
        self._moments: dict[int, Statistics] = {}
        self._moved: dict[tuple[int, str], list[InputStatistics]] = {}
        units: dict[str, Entry] = {}
        for cut in self.network.cuts.values():
            if cut.block == block and cut.name in self.units:
                units |= self._cut(cut, self.units[cut.name])
        for matrix in self.network.matrices.values():
            unit = self.units.get(sparsity_unit_name(matrix))
            if matrix.block == block and unit is not None:
                units |= self._sparsify(matrix, unit)
        if self.pruners.compensate:
            matrices = [matrix for matrix in self.network.matrices.values() if matrix.block == block]
            means = {matrix.input_key: self._inputs(matrix).mean for matrix in matrices}
            write_means(means_path(self.directory, block), means)
        prefix = self.network.blocks[block] + "."
        names = [name for name in self._parameters if name.startswith(prefix) and self._is_within(name, block)]
        write_json(done, {"units": units, "nonzeros": self._nonzeros(names)}, durable=False)

    def _is_built(self, done: Path) -> bool:
        try:
            check_units(self.directory, read_json(done)["units"])
        except DamagedFile:
            return False
        return True

    def finish(self, key: dict[str, Any]) -> None:
        """Write `index.json` from all block files."""
        index: Entry = {"key": key, "units": {}, "nonzeros": {}}
        for block in range(len(self.network.blocks)):
            block_index = read_json(block_path(self.directory, block))
            index["units"] |= block_index["units"]
            index["nonzeros"] |= block_index["nonzeros"]
        index["nonzeros"] |= self._nonzeros([name for name in self._parameters if name not in index["nonzeros"]])
        write_json(self.directory / "index.json", index, durable=False)

    @property
    def _parameters(self) -> dict[str, torch.Tensor]:
        """The network's parameters, and an empty one for each bias that only compensates."""
        return dict(self.model.named_parameters()) | dict.fromkeys(self.composer.added, torch.empty(0))

    def _is_within(self, name: str, block: int) -> bool:
        """Return whether a tensor's levels depend only on units of this block."""
        plan = self.composer.plans.get(name)
        return plan is None or all(use.unit.block == block for use in plan.uses)

    def _inputs(self, matrix: Matrix) -> InputStatistics:
        """Return the statistics of a matrix's inputs; the matrix may be in another block than the cut."""
        if matrix.block not in self._moments:
            self._moments[matrix.block] = load_statistics(self.statistics, matrix.block)
        if matrix.input_key not in self._moments[matrix.block]:
            raise problem(
                "SS210",
                f"layer {matrix.input_key} does not run on the calibration data, so its inputs have no statistics.",
                fix="Give data that reach it, or targets that leave it out.",
            )
        return self._moments[matrix.block][matrix.input_key]

    def _layers(self, matrix: Matrix) -> list[Layer]:
        """Return the layer of each group of a matrix, float32."""
        weight = matrix.view(self.composer.dense[matrix.name].float())
        inputs = self._group_inputs(matrix, weight.device)
        if matrix.name not in self.gradients:
            return [Layer(group, inputs[i]) for i, group in enumerate(weight)]
        mean, square = (matrix.view(tensor.to(weight.device)) for tensor in self.gradients[matrix.name])
        return [Layer(group, inputs[i], square[i], mean[i]) for i, group in enumerate(weight)]

    def _group_inputs(self, matrix: Matrix, device: torch.device) -> list[InputStatistics]:
        """Return the statistics of each group's inputs on a device; matrices with the same inputs share them."""
        key = matrix.block, matrix.input_key
        if key not in self._moved:
            moved = self._inputs(matrix).to(device)
            self._moved[key] = [moved.group(i) for i in range(len(moved.second_moment))]
        return self._moved[key]

    @cached_property
    def gradients(self) -> Gradients:
        """Mean and mean squared gradients by matrix; empty if no pruner needs them."""
        return {} if self._gradient_file is None else load_gradients(self._gradient_file)

    def _sparsify(self, matrix: Matrix, unit: Unit) -> dict[str, Entry]:
        prune, layers = unstructured(self.pruners.sparsity), self._layers(matrix)
        groups = len(layers)
        # All groups keep the same number, the first ones one more if a count is not divisible.
        pruned = [
            prune(layer, [k // groups + (i < k % groups) for k in unit.levels[1:]], self.pruners)
            for i, layer in enumerate(layers)
        ]
        path = unit_path(self.directory, unit)
        weights = torch.stack([levels.weights for levels in pruned], dim=1)  # (L, groups, O, I)
        write_sparse(path, torch.stack([matrix.unview(level) for level in weights]), self.storage)
        errors = torch.stack([layer_errors(layer, levels) for layer, levels in zip(layers, pruned, strict=True)])
        return {unit.name: self._entry(unit, errors.mean(dim=0).tolist(), path)}

    def _cut(self, cut: Cut, unit: Unit) -> dict[str, Entry]:
        path = unit_path(self.directory, unit)
        if not cut.readers:
            outermost_first = torch.arange(cut.elements).flip(0)[None]
            orders = outermost_first if cut.kind == "kernel" else self._expert_orders(cut)
            write_cut(path, orders, [], self.storage)
            return {unit.name: self._entry(unit, [], path)}
        prune = structured(self.pruners.width)
        layers = {slot.tensor: self._layers(self.network.matrices[slot.tensor]) for slot in cut.readers}
        groups = self._groups(cut, layers)
        results = [prune(group, unit.levels[1:], self.pruners) for group in groups]
        levels = [self._stack(cut, [weights[i] for _, weights in results]) for i in range(len(unit.levels) - 1)]
        write_cut(path, torch.stack([order for order, _ in results]), levels, self.storage)
        errors = [
            sum(self._cut_error(cut, slot, layers[slot.tensor], level) for slot in cut.readers)
            for level in range(1, len(unit.levels))
        ]
        return {unit.name: self._entry(unit, errors, path)}

    def _stack(self, cut: Cut, weights: list[list[torch.Tensor]]) -> list[torch.Tensor]:
        """Return the refitted matrices (groups, rows, columns) of each reader, from those of each order of the cut."""
        if cut.orders > 1:
            # Each order refits its own slices of a tensor, or its own columns of a matrix.
            joins = [torch.stack if slot.batched else _join_columns for slot in cut.readers]
            return [join([order[i] for order in weights]) for i, join in enumerate(joins)]
        matrices = iter(weights[0])
        return [
            torch.stack([next(matrices) for _ in range(self.network.matrices[slot.tensor].groups)])
            for slot in cut.readers
        ]

    def _expert_orders(self, cut: Cut) -> torch.Tensor:
        """Return experts in order of removal within each routing group, (groups, experts)."""
        router, inputs, _ = (slot.tensor for slot in cut.writers[:3])
        routing = self._inputs(self.network.matrices[inputs]).routing
        weight = self.composer.dense[router].float().cpu()
        orders = []
        for index in cut.writers[0].index[:, :, 0]:
            experts = Experts(weight[index], *routing[index].T)
            orders.append(expert_order_named(self.pruners.experts)(experts))
        return torch.stack(orders)

    def _groups(self, cut: Cut, layers: dict[str, list[Layer]]) -> list[Group]:
        """Return the elements of each order of a cut, as a structured pruner takes them."""
        written = [(slot, self._writing_tensors(slot)) for slot in cut.writers if slot.tensor in self.network.matrices]
        groups = []
        for order in range(cut.orders):
            readers = [reader for slot in cut.readers for reader in self._readers(slot, layers[slot.tensor], order)]
            groups.append(Group(tuple(readers), tuple(_writer(slot, tensors, order) for slot, tensors in written)))
        return groups

    def _readers(self, slot: Slot, layers: list[Layer], order: int) -> list[Reader]:
        """Return the readers of the elements: one matrix, or all groups of a grouped convolution."""
        matrix = self.network.matrices[slot.tensor]
        columns = matrix_columns(matrix, slot.index[0 if slot.batched else order])
        reading = [layers[order]] if slot.batched else layers
        if columns.numel() == matrix.columns:
            return [Reader(layer, columns) for layer in reading]
        # Inputs from other layers, joined in a concatenation, stay unchanged.
        inputs, index = columns.flatten().sort()
        positions = torch.empty_like(index).scatter_(0, index, torch.arange(len(index))).view_as(columns)
        return [Reader(layer.inputs_only(inputs), positions) for layer in reading]

    def _writing_tensors(self, slot: Slot) -> list[torch.Tensor]:
        """Return a writing matrix and its gradients, (orders, rows, inputs) if batched, else (rows, inputs)."""
        weight = self.composer.dense[slot.tensor].float()
        tensors = [weight, *(gradient.to(weight.device) for gradient in self.gradients.get(slot.tensor, ()))]
        return tensors if slot.batched else [tensor.movedim(slot.axis, 0).flatten(1) for tensor in tensors]

    def _error(self, matrix: Matrix, layers: list[Layer], tensor: torch.Tensor) -> float:
        """Return the mean relative output error over a matrix's groups."""
        groups = matrix.view(tensor.float())
        errors = [
            layer_error(layer.weight_OI, group, layer.inputs.second_moment)
            for layer, group in zip(layers, groups, strict=True)
        ]
        return sum(errors) / len(errors)

    def _cut_error(self, cut: Cut, slot: Slot, layers: list[Layer], level: int) -> float:
        matrix = self.network.matrices[slot.tensor]
        levels = [0] + [level if use.cut is cut else 0 for use in self.composer.plans[slot.tensor].uses]
        return self._error(matrix, layers, self.composer.padded_weight(slot.tensor, tuple(levels)))

    def _entry(self, unit: Unit, errors: list[float], path: Path) -> Entry:
        size = path.stat().st_size
        return {"levels": list(unit.levels), "errors": [0.0, *errors], "bytes": size, "sha256": file_hash(path)}

    def _nonzeros(self, names: Sequence[str]) -> dict[str, list[list[int]]]:
        """Count the nonzeros of parameters: for each sparsity level one value for each combination of cut levels."""
        table: dict[str, list[list[int]]] = {}
        zero = next(iter(self.composer.dense.values())).new_zeros((), dtype=torch.int64)
        for name in names:
            if name not in self.composer.plans:
                table[name] = [[int(torch.count_nonzero(self._parameters[name]))]]
                continue
            tensors = (self.composer.tensor(name, levels) for levels in self.composer.combinations(name))
            counts = [zero if t is None else torch.count_nonzero(t.to(self.storage)) for t in tensors]
            table[name] = np.reshape(torch.stack(counts).tolist(), (self.composer.counts(name)[0], -1)).tolist()
        return table


def _writer(slot: Slot, tensors: list[torch.Tensor], order: int) -> Writer:
    """Return the rows of `StoreBuilder._writing_tensors` that write each element of an order."""
    index = torch.from_numpy(slot.index[0 if slot.batched else order])
    rows = (tensor[order] if slot.batched else tensor for tensor in tensors)
    return Writer(*(row[index.to(row.device)] for row in rows))


def _join_columns(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat(parts, dim=1)[None]


def matrix_columns(matrix: Matrix, index: Index) -> torch.Tensor:
    """Return the columns of a matrix that belong to inputs, (elements, span) -> (elements, span * kernel)."""
    taps = torch.arange(matrix.kernel)
    return (torch.from_numpy(index)[:, :, None] * matrix.kernel + taps).flatten(1)


def block_path(directory: Path, block: int) -> Path:
    """Return the path of a finished block's index."""
    return directory / "blocks" / f"{block:03d}.json"
