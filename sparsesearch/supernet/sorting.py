"""Sorting of every cut's elements by importance, so that any width keeps the first ones.

A permutation of neurons, KV groups, experts or channels in all tensors that write and read them does not change the
network's outputs; a network whose outputs change (channels that are shuffled, or split by position) is refused.
"""

from __future__ import annotations

from typing import Any

import torch

from sparsesearch.errors import SparseSearchError, problem
from sparsesearch.models.network import Cut, Network, Slot
from sparsesearch.space import Space
from sparsesearch.supernet.store import UnitFiles

# Elements of each cut by its name, the most important first, (orders, elements); cuts in the order of sorting.
Rankings = dict[str, torch.Tensor]
# Allowed change of outputs relative to the largest, in units of float32's machine epsilon.
TOLERANCE_EPSILONS = 5000


def rankings(network: Network, space: Space, files: UnitFiles) -> Rankings:
    """Return the rankings of a level store's pruners: the elements that are removed last come first."""
    units = [unit for unit in space.units if unit.is_cut]
    # Neurons of each expert before the experts, since their rankings refer to the experts' original positions.
    units.sort(key=lambda unit: not any(slot.batched for slot in network.cuts[unit.name].readers))
    return {u.name: files.ranking(u, network.cuts[u.name].elements) for u in units}


def sort_elements(model: Any, network: Network, ranked: Rankings) -> None:
    """Permute the elements of the named cuts in place, in every parameter and buffer that holds them."""
    with torch.no_grad():
        for name, ranking in ranked.items():
            cut = network.cuts[name]
            for slot in {id(s): s for s in (*cut.writers, *cut.readers)}.values():
                tensor = _tensor(model, slot.tensor)
                tensor.copy_(_permute(tensor, slot, ranking))


def _permute(tensor: torch.Tensor, slot: Slot, ranking: torch.Tensor) -> torch.Tensor:
    index = torch.from_numpy(slot.index)
    if slot.batched:
        positions = torch.arange(tensor.shape[slot.axis]).repeat(len(ranking), 1)
        positions[:, index[0].flatten()] = index[0][ranking].flatten(1)
        shape = [len(ranking)] + [1] * (tensor.ndim - 1)
        shape[slot.axis] = positions.shape[1]
        return tensor.take_along_dim(positions.view(shape).to(tensor.device), dim=slot.axis)
    positions = torch.arange(tensor.shape[slot.axis])
    for elements, order in zip(index, ranking, strict=True):
        positions[elements.flatten()] = elements[order].flatten()
    return tensor.index_select(slot.axis, positions.to(tensor.device))


def _tensor(model: Any, name: str) -> torch.Tensor:
    path, _, leaf = name.rpartition(".")
    tensor: torch.Tensor = getattr(model.get_submodule(path), leaf).data
    return tensor


def sort_exactly(model: Any, network: Network, ranked: Rankings, outputs: Any) -> None:
    """Sort, and check that the network's outputs are the same.

    Args:
        model: the network; it is restored if its outputs change.
        network: its description.
        ranked: the elements of each cut in their new order.
        outputs: a function without arguments that runs the model on some samples.

    Raises InputError SS218, which names the first block that cannot be sorted.
    """
    expected = outputs()
    sort_elements(model, network, ranked)
    if _are_equal(outputs(), expected):
        return
    sort_elements(model, network, inverse_rankings(ranked))
    for name in sorted(ranked, key=lambda name: network.cuts[name].block):
        ranking = {name: ranked[name]}
        sort_elements(model, network, ranking)
        changed = not _are_equal(outputs(), expected)
        sort_elements(model, network, inverse_rankings(ranking))
        if changed:
            raise _sorting_error(network, network.cuts[name])
    raise _sorting_error(network, network.cuts[next(iter(ranked))])


def inverse_rankings(ranked: Rankings) -> Rankings:
    """Return the rankings that undo these."""
    return {name: ranking.argsort(dim=1) for name, ranking in reversed(ranked.items())}


def _are_equal(outputs: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return whether outputs are equal up to the rounding of another order of sums."""
    tolerance = torch.finfo(torch.float32).eps * TOLERANCE_EPSILONS
    return bool((outputs - expected).abs().max() <= tolerance * expected.abs().max().clamp_min(1e-6))


def _sorting_error(network: Network, cut: Cut) -> SparseSearchError:
    block = network.blocks[cut.block] if cut.block < len(network.blocks) else "the network"
    return problem(
        "SS218",
        f"{block}: sorting the elements of {cut.name} changes the network's outputs.",
        fix=f"Leave {cut.path} out of units, or use supernet: stitched.",
    )
