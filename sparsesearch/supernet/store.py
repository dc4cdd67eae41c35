"""The level store: every level of every unit on disk, one memory-mapped safetensors file a unit.

Layout of a store directory::

    index.json            schema, key (all that the levels depend on), and for each unit its levels, errors and SHA-256
    units/NAME.safetensors
        kind sparsity     `mask` uint8 (levels, ceil(weights / 8)), `values.L` the kept values of level L, row by row
        a cut             `order` int32 (orders, removals), elements in order of removal; `weight.L.R` the refitted
                          matrices (groups, rows, kept columns) of reader R at level L
    means/NNN.safetensors mean inputs (groups, inputs) of the matrices, if biases compensate pruning
    blocks/NNN.json       a block's share of index.json, written after all its units; makes builds resumable

Level 0 is the dense model and is not stored. Values have the checkpoint's data type.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sparsesearch.config import PrunerConfig
from sparsesearch.errors import DamagedFile, first_line
from sparsesearch.files import atomic_write, check_inventory, read_json
from sparsesearch.models.network import Matrix, Network
from sparsesearch.pruning.layer import kept_elements
from sparsesearch.space import Space, Unit

SCHEMA = 2
# Hint of the error for a damaged store.
REBUILD = "'sparsesearch resume RUN' builds it again."


def store_key(
    space: Space, pruners: PrunerConfig, weights: str, calibration: str, numerics: dict[str, Any]
) -> dict[str, Any]:
    """Return a store's key: all that its levels depend on.

    Args:
        weights, calibration: hashes of the model's weights and of the calibration data.
        numerics: settings that affect the order and precision of sums (data type, device, batch, threads).
    """
    return {
        "schema": SCHEMA,
        "weights": weights,
        "calibration": calibration,
        "numerics": numerics,
        "pruners": pruners.model_dump(),
        "units": [[u.name, list(u.levels)] for u in space.units],
    }


def key_hash(key: dict[str, Any]) -> str:
    """Return the name of a store's directory, sixteen hexadecimal digits."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def unit_path(directory: Path, unit: Unit) -> Path:
    """Return the path of a unit's levels."""
    return directory / "units" / f"{unit.name}.safetensors"


def means_path(directory: Path, block: int) -> Path:
    """Return the path of a block's mean inputs."""
    return directory / "means" / f"{block:03d}.safetensors"


def write_means(path: Path, means: dict[str, torch.Tensor]) -> None:
    """Write mean inputs, (groups, inputs) each, by `Matrix.input_key`."""
    _write(path, {name: mean.float().cpu().contiguous() for name, mean in means.items()})


def write_sparse(path: Path, levels: torch.Tensor, dtype: torch.dtype) -> None:
    """Write pruned weights of levels 1, 2, ... as bitmasks and packed values; values that round to zero are not stored.

    Args:
        levels: weights of each level in the parameter's own shape, (levels, *shape).
        dtype: data type of the values.
    """
    flat = levels.to(dtype).flatten(1).cpu()
    masks = flat != 0
    tensors = {f"values.{i + 1}": level[mask] for i, (level, mask) in enumerate(zip(flat, masks, strict=True))}
    tensors["mask"] = torch.from_numpy(np.packbits(masks.numpy(), axis=1))
    _write(path, tensors)


def write_cut(path: Path, order: torch.Tensor, levels: list[list[torch.Tensor]], dtype: torch.dtype) -> None:
    """Write removal orders and, for levels 1, 2, ..., the refitted matrices of each reader.

    Args:
        order: elements in order of removal, (orders, removals).
        levels: for each level and reader the matrices (groups, rows, kept columns).
        dtype: data type of the matrices.
    """
    tensors = {
        f"weight.{i + 1}.{reader}": weight.to(dtype).cpu().contiguous()
        for i, level in enumerate(levels)
        for reader, weight in enumerate(level)
    }
    tensors["order"] = order.to(torch.int32)
    _write(path, tensors)


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with atomic_write(path) as temporary:
        save_file(tensors, temporary)


def check_units(directory: Path, units: dict[str, Any], thorough: bool = False) -> None:
    """Raise DamagedFile SS306 if the file of a unit is missing or changed.

    Args:
        units: entries of `index.json`, or of a block's file, by unit.
        thorough: compare contents however large the files are.
    """
    files = {f"units/{name}.safetensors": entry for name, entry in units.items() if "sha256" in entry}
    check_inventory(directory, files, REBUILD, thorough)


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Raise DamagedFile SS306 if a file of levels cannot be opened."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise DamagedFile(path, first_line(error), REBUILD, "SS306") from None


class UnitFiles:
    """Reads levels from unit files; files stay memory-mapped, and only requested tensors are read."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._open: dict[Path, Any] = {}

    def _file(self, unit: Unit) -> Any:
        return self._open_file(unit_path(self.directory, unit))

    def _open_file(self, path: Path) -> Any:
        if path not in self._open:
            with _translate_errors(path):
                self._open[path] = safe_open(path, framework="pt")
        return self._open[path]

    def sparse(self, unit: Unit, level: int, shape: tuple[int, ...]) -> torch.Tensor:
        """Return the pruned weight of a sparsity level >= 1, of `shape`, in the storage type."""
        file = self._file(unit)
        packed = file.get_slice("mask")[level - 1 : level][0]
        mask = torch.from_numpy(np.unpackbits(packed.numpy(), count=unit.total).view(np.bool_))
        values = file.get_tensor(f"values.{level}")
        weight = torch.zeros(unit.total, dtype=values.dtype)
        return weight.masked_scatter_(mask, values).view(shape)

    def kept(self, unit: Unit, level: int, elements: int) -> torch.Tensor:
        """Return the elements that a cut level keeps in each order, ascending, (orders, kept)."""
        orders = self._file(unit).get_tensor("order").long()
        return torch.stack([kept_elements(order, elements, unit.levels[level]) for order in orders])

    def ranking(self, unit: Unit, elements: int) -> torch.Tensor:
        """Return all elements of a cut, those removed last first, (orders, elements)."""
        return torch.stack(
            [
                torch.cat([kept_elements(order, elements, elements - len(order)), order.flip(0)])
                for order in self._file(unit).get_tensor("order").long()
            ]
        )

    def mean(self, matrix: Matrix) -> torch.Tensor:
        """Return the mean inputs of a matrix over calibration data, (groups, inputs)."""
        mean: torch.Tensor = self._open_file(means_path(self.directory, matrix.block)).get_tensor(matrix.input_key)
        return mean

    def cut(self, unit: Unit, level: int, reader: int) -> torch.Tensor:
        """Return the refitted matrix (groups, rows, kept columns) of one reader at a cut level >= 1."""
        weight: torch.Tensor = self._file(unit).get_tensor(f"weight.{level}.{reader}")
        return weight


class LevelStore:
    """A finished store."""

    def __init__(self, directory: Path, index: dict[str, Any]) -> None:
        self.directory, self.index = directory, index
        self.files = UnitFiles(directory)

    @classmethod
    def open(cls, directory: Path, key: dict[str, Any], thorough: bool = False) -> LevelStore:
        """Open a store; raises DamagedFile SS306 if it was made of other weights, data or options, or is damaged.

        Args:
            key: the expected key.
            thorough: compare contents with checksums however large the store is.
        """
        path = directory / "index.json"
        index = read_json(path, REBUILD, "SS306")
        if index.get("key") != key:
            different = ", ".join(k for k in key if index.get("key", {}).get(k) != key[k])
            raise DamagedFile(path, f"built from other {different}", REBUILD, "SS306")
        check_units(directory, index["units"], thorough)
        return cls(directory, index)

    @property
    def nonzeros(self) -> dict[str, list[list[int]]]:
        """Measured nonzeros of every parameter at every (sparsity, cut) level, for `Space.with_nonzeros`."""
        table: dict[str, list[list[int]]] = self.index["nonzeros"]
        return table


def estimated_bytes(space: Space, network: Network, bytes_per_weight: int) -> int:
    """Return the bytes on disk of a store of this space, within a few percent."""
    total = 0
    for unit in space.units:
        if unit.kind == "sparsity":
            total += sum(k * bytes_per_weight + unit.total // 8 for k in unit.levels[1:])
        elif unit.is_cut:
            for slot in network.cuts[unit.name].readers:
                shape = network.shapes[slot.tensor]
                other = math.prod(shape) // shape[slot.axis]
                total += sum(slot.size(shape[slot.axis], k) * other * bytes_per_weight for k in unit.levels[1:])
    return total
