"""The dense network with a factor on everything that units may take away.

An opening of 1 leaves an element as it is; at 0 the network computes what it computes without it: the columns of all
matrices that read a neuron, KV group or channel are zero then, the parameters that a sublayer puts out, or the weight
itself. Experts are the exception: a closed one adds nothing, but the router still chooses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from sparsesearch.models.network import Cut, Network, Slot, sparsity_module
from sparsesearch.space import Space, Unit
from sparsesearch.supernet.elastic import Running
from sparsesearch.training.weights import Weights

# By name of unit: of a sparsity unit in the shape of its weight; of a cut (orders, elements), or (orders, elements,
# elements) to mix elements; of a sublayer a scalar.
Openings = Mapping[str, torch.Tensor]


class Relaxed:
    """A network whose units are open to any degree."""

    def __init__(self, network: Network, space: Space, weights: Weights) -> None:
        self.network, self.space, self.weights = network, space, weights
        self.units = {unit.name: unit for unit in space.units}
        self.matrices = {f"{sparsity_module(m)}.sparsity": m for m in network.matrices.values()}
        self.touched: dict[str, list[tuple[Unit, Slot | None]]] = {}
        for unit in space.units:
            for name, slot in self._places(unit):
                self.touched.setdefault(name, []).append((unit, slot))

    def _places(self, unit: Unit) -> Iterator[tuple[str, Slot | None]]:
        """The tensors that an opening of a unit multiplies, and where in them."""
        if unit.kind == "sparsity":
            yield self.matrices[unit.name].name, None
        elif unit.is_drop:
            for name in self.network.drops[unit.name].outputs:
                yield name, None
        else:
            cut = self.network.cuts[unit.name]
            # Experts are read by no matrix: the last one that holds them is what they put out.
            held = [slot for slot in cut.writers if slot.tensor in self.network.matrices]
            for slot in cut.readers or held[-1:]:
                yield slot.tensor, slot

    def shape(self, unit: Unit) -> tuple[int, ...]:
        """Of what has a value for each element of a unit."""
        if unit.kind == "sparsity":
            return self.matrices[unit.name].shape
        if unit.is_drop:
            return ()
        cut = self.network.cuts[unit.name]
        return cut.orders, cut.elements

    def tensors(self, openings: Openings) -> dict[str, torch.Tensor]:
        """Weights times their factors, differentiable in both, by name; what nothing touches is left out."""
        found = self.weights.updated()
        for name, touching in self.touched.items():
            value = found.get(name, self.weights.own[name])
            for unit, slot in touching:
                if unit.name in openings:
                    value = opened(value, slot, openings[unit.name])
            found[name] = value
        return found

    def running(self, tensors: dict[str, torch.Tensor]) -> Running:
        return Running(self.weights.model, tensors)

    def size(self, unit: Unit) -> torch.Tensor:
        """Mean squared weight of each element of a unit over the matrices that hold it, differentiable.

        Of a sublayer, of the matrices that it puts out.
        """
        own = self.weights.tensor
        if unit.kind == "sparsity":
            return own(self.matrices[unit.name].name).square()
        if unit.is_drop:
            outputs = [n for n in self.network.drops[unit.name].outputs if n in self.network.matrices]
            return torch.stack([own(name).square().mean() for name in outputs]).mean()
        cut = self.network.cuts[unit.name]
        slots = [slot for slot in (*cut.writers, *cut.readers) if slot.tensor in self.network.matrices]
        return _weighted([gathered(own(slot.tensor).square(), slot, cut) for slot in slots])

    def writers(self, unit: Unit) -> Iterator[tuple[str, Slot]]:
        """What writes the elements of a cut: parameters that are all zero where an element is, by name."""
        for slot in self.network.cuts[unit.name].writers:
            if slot.tensor in self.weights.own:
                yield slot.tensor, slot


def opened(value: torch.Tensor, slot: Slot | None, opening: torch.Tensor) -> torch.Tensor:
    """A tensor times the openings of what lies along an axis of it; whole where there is no slot."""
    if slot is None:
        return value * opening
    index = torch.from_numpy(slot.index).to(value.device)
    if opening.ndim == 3:
        return _mixed(value, slot, index, opening)
    full = value.shape[slot.axis]
    if slot.batched:
        spread = opening[:, :, None].expand(-1, -1, index.shape[2]).flatten(1)
        factor = opening.new_ones(len(opening), full).index_copy(1, index[0].flatten(), spread)
        shape = [1] * value.ndim
        shape[0], shape[slot.axis] = factor.shape
        return value * factor.view(shape)
    spread = opening[:, :, None].expand(index.shape).flatten()
    factor = opening.new_ones(full).index_copy(0, index.flatten(), spread)
    shape = [1] * value.ndim
    shape[slot.axis] = full
    return value * factor.view(shape)


def _mixed(value: torch.Tensor, slot: Slot, index: torch.Tensor, opening: torch.Tensor) -> torch.Tensor:
    """What reads elements h reads `opening @ h` instead."""
    last = value.movedim(slot.axis, -1)
    mixed = torch.einsum("...oes,oef->...ofs", last[..., index], opening.to(value))
    return last.index_copy(last.ndim - 1, index.flatten(), mixed.flatten(-3)).movedim(-1, slot.axis)


def gathered(value: torch.Tensor, slot: Slot, cut: Cut) -> tuple[torch.Tensor, int]:
    """A value summed over what each element of a cut holds of a tensor, (orders, elements), and how much that is."""
    index = torch.from_numpy(slot.index).to(value.device)
    last = value.movedim(slot.axis, -1)
    if slot.batched:
        chosen = last[..., index[0]]  # (orders, ..., elements, span)
        summed = chosen.sum(-1).flatten(1, -2).sum(1) if chosen.ndim > 3 else chosen.sum(-1)
    else:
        chosen = last[..., index]
        summed = chosen.sum(-1)
        summed = summed.flatten(0, -3).sum(0) if summed.ndim > 2 else summed
    return summed, value.numel() // value.shape[slot.axis] // (cut.orders if slot.batched else 1) * index.shape[2]


def _weighted(parts: list[tuple[torch.Tensor, int]]) -> torch.Tensor:
    return torch.stack([total for total, _ in parts]).sum(0) / sum(count for _, count in parts)
