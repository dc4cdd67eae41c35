"""Sort once: elements of every cut in the order of their importance, so that any width is the first ones.

A permutation of neurons, KV groups, experts or channels in everything that writes and reads them changes nothing that
the network computes; a network where it does (channels that are shuffled, or split by position) is refused.
"""

from __future__ import annotations

from typing import Any

import torch

from sparsesearch.errors import SparseSearchError, problem
from sparsesearch.models.network import Cut, Network, Slot
from sparsesearch.space import Space
from sparsesearch.supernet.store import UnitFiles

# By the name of a cut: its elements, the most important first, (orders, elements). In the order of sorting.
Rankings = dict[str, torch.Tensor]
# How far outputs may move, relative to the largest, in units of the rounding error of the arithmetic.
ROUNDINGS = 5000


def rankings(network: Network, space: Space, files: UnitFiles) -> Rankings:
    """What a level store's pruners found: elements that stay longest first."""
    units = [unit for unit in space.units if unit.is_cut]
    # Neurons of each expert before the experts: rankings know experts by where they were.
    units.sort(key=lambda unit: not any(slot.batched for slot in network.cuts[unit.name].readers))
    return {u.name: files.ranking(u, network.cuts[u.name].elements) for u in units}


def sort_elements(model: Any, network: Network, ranked: Rankings) -> None:
    """Permute the elements of the named cuts in place, in every parameter and buffer that holds them."""
    with torch.no_grad():
        for name, ranking in ranked.items():
            cut = network.cuts[name]
            for slot in {id(s): s for s in (*cut.writers, *cut.readers)}.values():
                tensor = _tensor(model, slot.tensor)
                tensor.copy_(_permuted(tensor, slot, ranking))


def _permuted(tensor: torch.Tensor, slot: Slot, ranking: torch.Tensor) -> torch.Tensor:
    index = torch.from_numpy(slot.index)
    if slot.batched:
        places = torch.arange(tensor.shape[slot.axis]).repeat(len(ranking), 1)
        places[:, index[0].flatten()] = index[0][ranking].flatten(1)
        shape = [len(ranking)] + [1] * (tensor.ndim - 1)
        shape[slot.axis] = places.shape[1]
        return tensor.take_along_dim(places.view(shape).to(tensor.device), dim=slot.axis)
    places = torch.arange(tensor.shape[slot.axis])
    for own, order in zip(index, ranking, strict=True):
        places[own.flatten()] = own[order].flatten()
    return tensor.index_select(slot.axis, places.to(tensor.device))


def _tensor(model: Any, name: str) -> torch.Tensor:
    path, _, leaf = name.rpartition(".")
    tensor: torch.Tensor = getattr(model.get_submodule(path), leaf).data
    return tensor


def sort_exactly(model: Any, network: Network, ranked: Rankings, outputs: Any) -> None:
    """Sort, and see that the network still computes the same.

    Args:
        model: is restored where it does not.
        outputs: a function of no arguments that runs it on some samples.

    Raises InputError SS218, which names the first block that cannot be sorted.
    """
    wanted = outputs()
    sort_elements(model, network, ranked)
    if _same(outputs(), wanted):
        return
    sort_elements(model, network, inverse(ranked))
    for name in sorted(ranked, key=lambda name: network.cuts[name].block):
        alone = {name: ranked[name]}
        sort_elements(model, network, alone)
        moved = not _same(outputs(), wanted)
        sort_elements(model, network, inverse(alone))
        if moved:
            raise _not_sortable(network, network.cuts[name])
    raise _not_sortable(network, network.cuts[next(iter(ranked))])


def inverse(ranked: Rankings) -> Rankings:
    """Rankings that undo these."""
    return {name: ranking.argsort(dim=1) for name, ranking in reversed(ranked.items())}


def _same(outputs: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Within what another order of sums may move."""
    rounding = torch.finfo(torch.float32).eps * ROUNDINGS
    return bool((outputs - wanted).abs().max() <= rounding * wanted.abs().max().clamp_min(1e-6))


def _not_sortable(network: Network, cut: Cut) -> SparseSearchError:
    block = network.blocks[cut.block] if cut.block < len(network.blocks) else "the network"
    return problem(
        "SS218",
        f"{block}: sorting the elements of {cut.name} changes what the network computes.",
        fix=f"Leave {cut.path} out of units, or use supernet: stitched.",
    )
