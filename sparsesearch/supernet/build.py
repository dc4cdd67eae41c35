"""Building the level store, block by block; any worker can build any block whose statistics are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from sparsesearch.calibration.statistics import Statistics, load_statistics
from sparsesearch.config import PrunerConfig
from sparsesearch.models.architecture import Architecture, Linear, Sublayer
from sparsesearch.pruning import layer_error, structured, unstructured
from sparsesearch.space import Space, Unit
from sparsesearch.supernet.compose import Composer
from sparsesearch.supernet.store import UnitFiles, file_hash, unit_path, write_cut, write_sparse

Entry = dict[str, Any]


class StoreBuilder:
    """Builds blocks of one store from one network's dense weights."""

    def __init__(
        self,
        model: Any,
        architecture: Architecture,
        space: Space,
        pruners: PrunerConfig,
        directory: Path,
        statistics: Path,
        storage: torch.dtype,
    ) -> None:
        """
        Args:
            directory: of the store.
            statistics: of the calibration pass.
            storage: type that levels are kept in.
        """
        self.model, self.architecture, self.space = model, architecture, space
        self.pruners, self.directory, self.storage = pruners, directory, storage
        self.statistics = statistics
        self.composer = Composer(model, architecture, space, UnitFiles(directory))
        self.units = {unit.name: unit for unit in space.units}

    def build(self, block: int) -> None:
        """Write all unit files of a block, then `blocks/NNN.json`; does nothing where that exists."""
        done = block_path(self.directory, block)
        if done.exists():
            return
        statistics = load_statistics(self.statistics, block)
        units: dict[str, Entry] = {}
        for sublayer in self.architecture.sublayers:
            if sublayer.block == block:
                units |= self._cut(sublayer, statistics)
                for linear in sublayer.linears:
                    units |= self._sparsify(linear, statistics)
        prefix = self.architecture.blocks[block] + "."
        write_json(done, {"units": units, "nonzeros": self._nonzeros(lambda name: name.startswith(prefix))})

    def finish(self, key: dict[str, Any]) -> None:
        """Write `index.json` from all block files."""
        index: Entry = {"key": key, "units": {}, "nonzeros": {}}
        for block in range(len(self.architecture.blocks)):
            part = json.loads(block_path(self.directory, block).read_text())
            index["units"] |= part["units"]
            index["nonzeros"] |= part["nonzeros"]
        inside = tuple(f"{path}." for path in self.architecture.blocks)
        index["nonzeros"] |= self._nonzeros(lambda name: not name.startswith(inside))
        write_json(self.directory / "index.json", index)

    def _sparsify(self, linear: Linear, statistics: Statistics) -> dict[str, Entry]:
        unit = self.units.get(f"{linear.path}.sparsity")
        if unit is None or len(unit.levels) == 1:
            return {}
        weight = self.composer.dense[linear.path].float()
        second_moment = statistics[linear.reads].to(weight.device)
        levels = unstructured(self.pruners.sparsity)(weight, second_moment, unit.levels[1:], self.pruners.damp)
        path = unit_path(self.directory, unit)
        write_sparse(path, levels, self.storage)
        errors = [layer_error(weight, level, second_moment) for level in levels]
        return {unit.name: self._entry(unit, errors, path)}

    def _cut(self, sublayer: Sublayer, statistics: Statistics) -> dict[str, Entry]:
        unit = self.units.get(sublayer.cut_unit)
        if unit is None or len(unit.levels) == 1:
            return {}
        output = sublayer.output
        weight = self.composer.dense[output.path].float()
        second_moment = statistics[output.reads].to(weight.device)
        prune = structured(self.pruners.width)
        order, levels = prune(weight, second_moment, output.cut_span, unit.levels[1:], self.pruners.damp)
        path = unit_path(self.directory, unit)
        write_cut(path, order, levels, self.storage)
        errors = []
        for level in range(1, len(unit.levels)):
            full, _ = self.composer.padded(output.path, (0, level))
            errors.append(layer_error(weight, full.float(), second_moment))
        return {unit.name: self._entry(unit, errors, path)}

    def _entry(self, unit: Unit, errors: list[float], path: Path) -> Entry:
        return {"levels": list(unit.levels), "errors": [0.0, *errors], "sha256": file_hash(path)}

    def _nonzeros(self, wanted: Any) -> dict[str, list[list[int]]]:
        """Counted nonzeros of the wanted parameters at every (sparsity, cut) level."""
        table: dict[str, list[list[int]]] = {}
        for name, parameter in self.model.named_parameters():
            if not wanted(name):
                continue
            path, _, leaf = name.rpartition(".")
            if path not in self.composer.linears:
                table[name] = [[int(torch.count_nonzero(parameter))]]
            elif leaf == "bias":
                cuts = self.composer.count(path)[1]
                biases = [self.composer.bias_of(path, (0, c)) for c in range(cuts)]
                table[name] = [[int(torch.count_nonzero(b)) for b in biases if b is not None]]
            else:
                table[name] = self._weight_nonzeros(path)
        return table

    def _weight_nonzeros(self, path: str) -> list[list[int]]:
        sparsities, cuts = self.composer.count(path)
        return [
            [int(torch.count_nonzero(self.composer.weight(path, (s, c)).to(self.storage))) for c in range(cuts)]
            for s in range(sparsities)
        ]


def block_path(directory: Path, block: int) -> Path:
    return directory / "blocks" / f"{block:03d}.json"


def write_json(path: Path, data: Any) -> None:
    """Write through a temporary file, so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(data))
    temporary.replace(path)
