"""The elastic supernet: one network with sorted elements, of which a genome keeps the first ones of each cut.

Tensors of a genome are views of the network's own, so gradients of any sub-network add up in the shared weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from torch.func import functional_call

from sparsesearch.models.network import Cut, Drop, Network
from sparsesearch.models.surgery import set_attribute, stand_in
from sparsesearch.space import Genome, Space

# Form of a sub-network's tensors: with smaller shapes, or with zeros in the dense shape.
Execution = Literal["sliced", "masked"]


class FunctionalNetwork:
    """A network with other tensors instead of its own; it is called like the network."""

    def __init__(self, model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
        self.model, self.tensors = model, tensors

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self.model, self.tensors, args, kwargs)

    @property
    def forward(self) -> Any:
        """The network's `forward`, for its signature."""
        return self.model.forward

    @property
    def config(self) -> Any:
        """The network's configuration."""
        return self.model.config

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the network's own parameters."""
        return self.model.parameters()

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the network's modules by path."""
        yield from self.model.named_modules()


class ElasticSupernet:
    """Runs genomes of one network whose elements are sorted."""

    def __init__(
        self,
        model: nn.Module,
        network: Network,
        space: Space,
        tensor: Callable[[str], torch.Tensor] | None = None,
        execution: Execution = "sliced",
        block: int | None = None,
    ) -> None:
        """
        Args:
            model: the network, with sorted elements.
            network: its description.
            space: the space of genomes.
            tensor: gives a parameter's value by name, such as one with a low-rank update; None for the network's own.
            execution: form of tensors; cut experts are always sliced, since a router would still choose a masked one.
            block: index of the only block to run, with its units; None for the complete network.
        """
        self.model, self.network, self.space, self.execution = model, network, space, execution
        self.root = "" if block is None else network.blocks[block]
        self._own = dict(model.named_parameters()) | dict(model.named_buffers())
        self._tensor = tensor or (lambda name: self._own[name])
        units = [(i, u) for i, u in enumerate(space.units) if block is None or u.block == block]
        self._cuts = [(i, network.cuts[u.name]) for i, u in units if u.is_cut]
        self._drops = [(i, network.drops[u.name]) for i, u in units if u.is_drop]

    @contextmanager
    def running(self, genome: Genome) -> Iterator[FunctionalNetwork]:
        """Yield the network as a genome, for one forward pass; gradients may be computed after the block."""
        dropped = [drop for position, drop in self._drops if genome.levels[position]]
        active = [(cut, self._kept(position, genome)) for position, cut in self._cuts if genome.levels[position]]
        tensors = self._tensors(active, dropped)
        stock = {}
        if self.execution == "sliced":
            stock = {path: self.model.get_submodule(path) for drop in dropped for path, _ in drop.stand_ins}
            for drop in dropped:
                for path, name in drop.stand_ins:
                    self.model.set_submodule(path, stand_in(name, stock[path]))
        sized = [(cut, kept) for cut, kept in active if self._slices(cut) and not _is_dropped(cut, dropped, stock)]
        self._resize(sized)
        for name, tensor in tensors.items():
            self._set_weight_shape(name, tensor.shape)
        try:
            target = self.model.get_submodule(self.root)
            prefix = f"{self.root}." if self.root else ""
            yield FunctionalNetwork(target, {n.removeprefix(prefix): t for n, t in tensors.items()})
        finally:
            self._resize([(cut, cut.elements) for cut, _ in sized])
            for path, module in stock.items():
                self.model.set_submodule(path, module)
            for name in tensors:
                self._set_weight_shape(name, self._own[name].shape)

    def _kept(self, position: int, genome: Genome) -> int:
        return self.space.units[position].levels[int(genome.levels[position])]

    def _slices(self, cut: Cut) -> bool:
        return self.execution == "sliced" or not cut.readers

    def _tensors(self, active: list[tuple[Cut, int]], dropped: list[Drop]) -> dict[str, torch.Tensor]:
        """Return the tensors that differ from the network's own, by name."""
        prefix = f"{self.root}." if self.root else ""
        values = ((name, self._value(name)) for name in self._own if name.startswith(prefix))
        tensors = {name: value for name, value in values if value is not self._own[name]}
        for slices in (True, False):
            for (name, axis), stays in self._kept_masks(active, slices).items():
                restrict = slice_axis if slices else mask_axis
                tensors[name] = restrict(tensors.get(name, self._own[name]), axis, stays)
        if self.execution == "masked":
            outputs = (name for drop in dropped for name in drop.outputs)
            tensors |= {name: torch.zeros_like(tensors.get(name, self._own[name])) for name in outputs}
            return tensors
        return {n: t for n, t in tensors.items() if not any(drop.removes(n) for drop in dropped)}

    def _value(self, name: str) -> torch.Tensor:
        own = self._own[name]
        return self._tensor(name) if isinstance(own, nn.Parameter) else own

    def _kept_masks(self, active: list[tuple[Cut, int]], slices: bool) -> dict[tuple[str, int], torch.Tensor]:
        """Return masks of kept positions by (tensor, axis), of all cuts that slice (or mask) tensors."""
        masks: dict[tuple[str, int], torch.Tensor] = {}
        for cut, kept in active:
            if self._slices(cut) != slices:
                continue
            for slot in (*cut.writers, *cut.readers) if slices else cut.readers:
                place = slot.tensor, slot.axis
                first = torch.arange(kept).expand(cut.orders, -1)
                stays = slot.mask_of(first, self._own[slot.tensor].shape[slot.axis])
                masks[place] = masks[place] & stays if place in masks else stays
        return masks

    def _resize(self, sized: list[tuple[Cut, int]]) -> None:
        for cut, kept in sized:
            for a in cut.attributes:
                set_attribute(self.model.get_submodule(a.module), a.name, a.per_element * kept)

    def _set_weight_shape(self, name: str, shape: torch.Size) -> None:
        """Set the attributes in which transformers' Conv1D holds its weight's shape; other layers have none."""
        path, _, leaf = name.rpartition(".")
        module: Any = self.model.get_submodule(path)
        if leaf == "weight" and hasattr(module, "nf"):
            module.nx, module.nf = shape


def _is_dropped(cut: Cut, dropped: list[Drop], stock: dict[str, nn.Module]) -> bool:
    """Return whether a cut is in a sublayer that was replaced by its stand-in."""
    return bool(stock) and any(drop.removes(f"{cut.path}.") for drop in dropped)


def slice_axis(value: torch.Tensor, axis: int, stays: torch.Tensor) -> torch.Tensor:
    """Return the positions of a tensor along an axis that stay; a view if they are contiguous.

    Args:
        stays: mask of positions along the axis.
    """
    positions = stays.nonzero().flatten()
    first, count = int(positions[0]), len(positions)
    if int(positions[-1]) - first + 1 == count:
        return value.narrow(axis, first, count)
    return value.index_select(axis, positions.to(value.device))


def mask_axis(value: torch.Tensor, axis: int, stays: torch.Tensor) -> torch.Tensor:
    """Return a tensor with zeros at the positions along an axis that do not stay.

    Args:
        stays: mask of positions along the axis.
    """
    shape = [1] * value.ndim
    shape[axis] = len(stays)
    return value * stays.to(value).view(shape)
