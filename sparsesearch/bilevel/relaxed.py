"""The dense network with a factor on everything that units may remove.

A factor of 1 leaves an element as it is; with 0 the network computes what it computes without the element: the columns
of all matrices that read a neuron, KV group or channel become zero, or the output parameters of a sublayer, or the
weight itself. Experts are the exception: an expert with factor 0 adds nothing, but the router can still choose it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from sparsesearch.models.network import Cut, Network, Slot, sparsity_unit_name
from sparsesearch.space import Space, Unit
from sparsesearch.supernet.elastic import FunctionalNetwork
from sparsesearch.training.weights import Weights

# Factors by name of unit: for a sparsity unit in the shape of its weight; for a cut (orders, elements), or (orders,
# elements, elements) to mix elements; for a sublayer a scalar.
Factors = Mapping[str, torch.Tensor]


class RelaxedNetwork:
    """A network whose units can be removed to any degree.

    Attributes:
        units: units of the space, by name.
        matrices: matrix of each sparsity unit, by name of the unit.
        units_by_tensor: (unit, slot) pairs whose factors multiply a tensor, by name of the tensor; without a slot
            they multiply the whole tensor.
    """

    def __init__(self, network: Network, space: Space, weights: Weights) -> None:
        self.network, self.space, self.weights = network, space, weights
        self.units = {unit.name: unit for unit in space.units}
        self.matrices = {sparsity_unit_name(m): m for m in network.matrices.values()}
        self.units_by_tensor: dict[str, list[tuple[Unit, Slot | None]]] = {}
        for unit in space.units:
            for name, slot in self._places(unit):
                self.units_by_tensor.setdefault(name, []).append((unit, slot))

    def _places(self, unit: Unit) -> Iterator[tuple[str, Slot | None]]:
        """Yield the tensors, with their slots, that a unit's factor multiplies."""
        if unit.kind == "sparsity":
            yield self.matrices[unit.name].name, None
        elif unit.is_drop:
            for name in self.network.drops[unit.name].outputs:
                yield name, None
        else:
            cut = self.network.cuts[unit.name]
            # No matrix reads experts: their last matrix writes their outputs.
            matrices = [slot for slot in cut.writers if slot.tensor in self.network.matrices]
            for slot in cut.readers or matrices[-1:]:
                yield slot.tensor, slot

    def shape(self, unit: Unit) -> tuple[int, ...]:
        """Return the shape of a unit's factors: that of its weight, (orders, elements), or () for a sublayer."""
        if unit.kind == "sparsity":
            return self.matrices[unit.name].shape
        if unit.is_drop:
            return ()
        cut = self.network.cuts[unit.name]
        return cut.orders, cut.elements

    def tensors(self, factors: Factors) -> dict[str, torch.Tensor]:
        """Return weights times their factors, differentiable in both, by name, in the shapes of the weights.

        Weights without factors are left out.

        Args:
            factors: by name of unit, in the shapes of `shape`; units without any keep their weights.
        """
        tensors = self.weights.updated_parameters()
        for name, pairs in self.units_by_tensor.items():
            value = tensors.get(name, self.weights.model_parameters[name])
            for unit, slot in pairs:
                if unit.name in factors:
                    value = apply_factor(value, slot, factors[unit.name])
            tensors[name] = value
        return tensors

    def with_tensors(self, tensors: dict[str, torch.Tensor]) -> FunctionalNetwork:
        """Return the network as a function that runs with tensors, by name, instead of its own of the same shapes."""
        return FunctionalNetwork(self.weights.model, tensors)

    def mean_squares(self, unit: Unit) -> torch.Tensor:
        """Return the mean squared weight of each element of a unit, in the shape of its factors, differentiable.

        The mean is over the matrices that hold the element; for a sublayer, over the matrices that write its output.
        """
        tensor = self.weights.tensor
        if unit.kind == "sparsity":
            return tensor(self.matrices[unit.name].name).square()
        if unit.is_drop:
            outputs = [n for n in self.network.drops[unit.name].outputs if n in self.network.matrices]
            return torch.stack([tensor(name).square().mean() for name in outputs]).mean()
        cut = self.network.cuts[unit.name]
        slots = [slot for slot in (*cut.writers, *cut.readers) if slot.tensor in self.network.matrices]
        sums = [element_sums(tensor(slot.tensor).square(), slot, cut) for slot in slots]
        return torch.stack([total for total, _ in sums]).sum(0) / sum(count for _, count in sums)

    def writers(self, unit: Unit) -> Iterator[tuple[str, Slot]]:
        """Yield (name, slot) of the parameters that write the elements of a cut."""
        for slot in self.network.cuts[unit.name].writers:
            if slot.tensor in self.weights.model_parameters:
                yield slot.tensor, slot


def apply_factor(value: torch.Tensor, slot: Slot | None, factor: torch.Tensor) -> torch.Tensor:
    """Return a tensor times the factors of the elements in a slot, or of the whole tensor if there is no slot.

    Args:
        value: parameter, in its own shape.
        factor: (orders, elements), or (orders, elements, elements) to mix elements; without a slot, a scalar or the
            shape of the parameter.
    """
    if slot is None:
        return value * factor
    index = torch.from_numpy(slot.index).to(value.device)
    if factor.ndim == 3:
        return _mix(value, slot, index, factor)
    full = value.shape[slot.axis]
    if slot.batched:
        spread = factor[:, :, None].expand(-1, -1, index.shape[2]).flatten(1)
        along_axis = factor.new_ones(len(factor), full).index_copy(1, index[0].flatten(), spread)
        shape = [1] * value.ndim
        shape[0], shape[slot.axis] = along_axis.shape
        return value * along_axis.view(shape)
    spread = factor[:, :, None].expand(index.shape).flatten()
    along_axis = factor.new_ones(full).index_copy(0, index.flatten(), spread)
    shape = [1] * value.ndim
    shape[slot.axis] = full
    return value * along_axis.view(shape)


def _mix(value: torch.Tensor, slot: Slot, index: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Return the matrix that applied to elements h equals the given one applied to `factor @ h`."""
    last = value.movedim(slot.axis, -1)
    mixed = torch.einsum("...oes,oef->...ofs", last[..., index], factor.to(value))
    return last.index_copy(last.ndim - 1, index.flatten(), mixed.flatten(-3)).movedim(-1, slot.axis)


def element_sums(value: torch.Tensor, slot: Slot, cut: Cut) -> tuple[torch.Tensor, int]:
    """Return the sum of a tensor's entries of each element of a cut, (orders, elements), and the number of entries."""
    index = torch.from_numpy(slot.index).to(value.device)
    last = value.movedim(slot.axis, -1)
    if slot.batched:
        entries = last[..., index[0]]  # (orders, ..., elements, span)
        sums = entries.sum(-1).flatten(1, -2).sum(1) if entries.ndim > 3 else entries.sum(-1)
    else:
        entries = last[..., index]
        sums = entries.sum(-1)
        sums = sums.flatten(0, -3).sum(0) if sums.ndim > 2 else sums
    return sums, value.numel() // value.shape[slot.axis] // (cut.orders if slot.batched else 1) * index.shape[2]
