"""Levels of the store as masks, and how many weights they are of."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparsesearch.models.network import Network
from sparsesearch.models.space_builder import sparsity_unit_name
from sparsesearch.space import Space, Unit
from sparsesearch.supernet.store import UnitFiles


def prunable_weights(space: Space, network: Network) -> dict[str, int]:
    """Return the number of weights of each sparsity unit, by name."""
    weights = {sparsity_unit_name(matrix): matrix.size for matrix in network.matrices.values()}
    return {unit.name: weights[unit.name] for unit in space.units if unit.kind == "sparsity"}


def mask_count(space: Space, network: Network) -> int:
    """Return the number of entries of `level_masks` of all sparsity units."""
    levels = {unit.name: len(unit.levels) for unit in space.units}
    return sum(size * levels[name] for name, size in prunable_weights(space, network).items())


def level_masks(files: UnitFiles, unit: Unit, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Which weights each level of a sparsity unit keeps, bool, (levels, *shape)."""
    masks = [torch.ones(shape, dtype=torch.bool)]
    masks += [files.sparse(unit, level, shape) != 0 for level in range(1, len(unit.levels))]
    return torch.stack(masks).to(device)


def nearest_level(levels: Sequence[int], kept: float) -> int:
    """The level that keeps about so many elements."""
    return min(range(len(levels)), key=lambda level: abs(levels[level] - kept))


def ranks(files: UnitFiles, unit: Unit, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Place of each element of a cut, 0 for the one that goes last, by the smallest level that keeps it.

    A level keeps the elements whose place is below its count. (orders, elements).
    """
    kept_at = torch.zeros(shape, dtype=torch.int64)
    for level in range(1, len(unit.levels)):
        kept_at.scatter_(1, files.kept(unit, level, shape[1]), level)
    places = torch.arange(shape[1]).expand(shape)
    order = kept_at.argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, places).to(device)
