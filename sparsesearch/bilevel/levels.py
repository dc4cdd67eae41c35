"""The elements that the level store keeps at each level, as masks and ranks, and the number of weights they cover."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparsesearch.models.network import Network, sparsity_unit_name
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
    """Return masks of the weights that each level of a sparsity unit keeps, (levels, *shape) bool."""
    masks = [torch.ones(shape, dtype=torch.bool)]
    masks += [files.sparse(unit, level, shape) != 0 for level in range(1, len(unit.levels))]
    return torch.stack(masks).to(device)


def nearest_level(levels: Sequence[int], kept: float) -> int:
    """Return the index of the level that keeps the number of elements nearest to `kept`."""
    return min(range(len(levels)), key=lambda level: abs(levels[level] - kept))


def element_ranks(files: UnitFiles, unit: Unit, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return the rank of each element of a cut, (orders, elements) int64; rank 0 is removed last.

    A level keeps the elements whose rank is below its count.
    """
    smallest_level = torch.zeros(shape, dtype=torch.int64)  # the smallest level that keeps an element
    for level in range(1, len(unit.levels)):
        smallest_level.scatter_(1, files.kept(unit, level, shape[1]), level)
    ranks = torch.arange(shape[1]).expand(shape)
    order = smallest_level.argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, ranks).to(device)
