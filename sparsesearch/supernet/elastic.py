"""The elastic supernet: one network of sorted elements, of which a genome has the first ones of each cut.

Tensors of a genome are views of the network's own, so gradients of any sub-network land in the one set of weights.
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

# How a sub-network runs: with really smaller tensors, or with zeros in tensors of the dense shape.
Execution = Literal["sliced", "masked"]


class Running:
    """A network with other tensors in the place of its own; it is called as the network is."""

    def __init__(self, model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
        self.model, self.tensors = model, tensors

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self.model, self.tensors, args, kwargs)

    @property
    def forward(self) -> Any:
        """The network's own, which says what arguments it takes."""
        return self.model.forward

    @property
    def config(self) -> Any:
        return self.model.config

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.model.parameters()

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        yield from self.model.named_modules()


class Elastic:
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
            tensor: of a parameter by name, such as one with a low-rank update; the network's own where None.
            execution: whole experts always leave, since a router would still choose one that is masked.
            block: the one block that is run, whose units alone matter; the whole network where None.
        """
        self.model, self.network, self.space, self.execution = model, network, space, execution
        self.root = "" if block is None else network.blocks[block]
        self._own = dict(model.named_parameters()) | dict(model.named_buffers())
        self._tensor = tensor or (lambda name: self._own[name])
        units = [(i, u) for i, u in enumerate(space.units) if block is None or u.block == block]
        self._cuts = [(i, network.cuts[u.name]) for i, u in units if u.is_cut]
        self._drops = [(i, network.drops[u.name]) for i, u in units if u.is_drop]

    @contextmanager
    def running(self, genome: Genome) -> Iterator[Running]:
        """The network as a genome, for one forward pass; its gradients may be taken later."""
        dropped = [drop for position, drop in self._drops if genome.levels[position]]
        active = [(cut, self._kept(position, genome)) for position, cut in self._cuts if genome.levels[position]]
        tensors = self._tensors(active, dropped)
        stock = {}
        if self.execution == "sliced":
            stock = {path: self.model.get_submodule(path) for drop in dropped for path, _ in drop.stand_ins}
            for drop in dropped:
                for path, name in drop.stand_ins:
                    self.model.set_submodule(path, stand_in(name, stock[path]))
        sized = [(cut, kept) for cut, kept in active if self._slices(cut) and not _gone(cut, dropped, stock)]
        self._resize(sized)
        for name, tensor in tensors.items():
            self._keep_in_step(name, tensor.shape)
        try:
            target = self.model.get_submodule(self.root)
            within = f"{self.root}." if self.root else ""
            yield Running(target, {n.removeprefix(within): t for n, t in tensors.items()})
        finally:
            self._resize([(cut, cut.elements) for cut, _ in sized])
            for path, module in stock.items():
                self.model.set_submodule(path, module)
            for name in tensors:
                self._keep_in_step(name, self._own[name].shape)

    def _kept(self, position: int, genome: Genome) -> int:
        return self.space.units[position].levels[int(genome.levels[position])]

    def _slices(self, cut: Cut) -> bool:
        return self.execution == "sliced" or not cut.readers

    def _tensors(self, active: list[tuple[Cut, int]], dropped: list[Drop]) -> dict[str, torch.Tensor]:
        """What differs from the network's own tensors, by name."""
        within = f"{self.root}." if self.root else ""
        values = ((name, self._value(name)) for name in self._own if name.startswith(within))
        found = {name: value for name, value in values if value is not self._own[name]}
        for slices in (True, False):
            for (name, axis), stays in self._staying(active, slices).items():
                part = narrowed if slices else masked
                found[name] = part(found.get(name, self._own[name]), axis, stays)
        if self.execution == "masked":
            silent = (name for drop in dropped for name in drop.outputs)
            found |= {name: torch.zeros_like(found.get(name, self._own[name])) for name in silent}
            return found
        return {n: t for n, t in found.items() if not any(drop.takes(n) for drop in dropped)}

    def _value(self, name: str) -> torch.Tensor:
        own = self._own[name]
        return self._tensor(name) if isinstance(own, nn.Parameter) else own

    def _staying(self, active: list[tuple[Cut, int]], slices: bool) -> dict[tuple[str, int], torch.Tensor]:
        """Which positions stay along the axes of tensors that cuts slice, or else mask: several may meet in one."""
        found: dict[tuple[str, int], torch.Tensor] = {}
        for cut, kept in active:
            if self._slices(cut) != slices:
                continue
            for slot in (*cut.writers, *cut.readers) if slices else cut.readers:
                place = slot.tensor, slot.axis
                first = torch.arange(kept).expand(cut.orders, -1)
                stays = slot.staying(first, self._own[slot.tensor].shape[slot.axis])
                found[place] = found[place] & stays if place in found else stays
        return found

    def _resize(self, sized: list[tuple[Cut, int]]) -> None:
        for cut, kept in sized:
            for a in cut.attributes:
                set_attribute(self.model.get_submodule(a.module), a.name, a.per_element * kept)

    def _keep_in_step(self, name: str, shape: torch.Size) -> None:
        """Set what transformers' Conv1D reads of its weight's shape; other layers read the weight."""
        path, _, leaf = name.rpartition(".")
        module: Any = self.model.get_submodule(path)
        if leaf == "weight" and hasattr(module, "nf"):
            module.nx, module.nf = shape


def _gone(cut: Cut, dropped: list[Drop], stock: dict[str, nn.Module]) -> bool:
    """Whether a cut lies in a sublayer that has left."""
    return bool(stock) and any(drop.takes(f"{cut.path}.") for drop in dropped)


def narrowed(value: torch.Tensor, axis: int, stays: torch.Tensor) -> torch.Tensor:
    """The positions of a tensor along an axis that stay; a view where they lie side by side."""
    places = stays.nonzero().flatten()
    first, count = int(places[0]), len(places)
    if int(places[-1]) - first + 1 == count:
        return value.narrow(axis, first, count)
    return value.index_select(axis, places.to(value.device))


def masked(value: torch.Tensor, axis: int, stays: torch.Tensor) -> torch.Tensor:
    """A tensor with zeros at the positions along an axis that do not stay."""
    shape = [1] * value.ndim
    shape[axis] = len(stays)
    return value * stays.to(value).view(shape)
