"""The pieces that a network's latency is put together from: blocks, or layers where there are no blocks.

Units that touch the same sublayer (or layer) make one piece: what it takes at each combination of their levels is
measured where it is. Equal blocks are narrowed together in the whole network, so that what one of them saves is seen as
it is there, with the weights of all others between its calls; layers are timed by themselves.
"""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache

from sparsesearch.data.samples import Samples
from sparsesearch.latency.table import Setting
from sparsesearch.models.layers import CONVOLUTIONS
from sparsesearch.models.network import Network
from sparsesearch.models.surgery import set_tensor
from sparsesearch.models.task import Inputs, Task
from sparsesearch.space import Genome, Space
from sparsesearch.supernet.elastic import Elastic

# What layers that are timed by themselves call the number of their inputs.
SIZES: dict[type[nn.Module], str] = {
    nn.Linear: "in_features",
    **dict.fromkeys(CONVOLUTIONS, "in_channels"),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), "num_features"),
}


@dataclass(frozen=True)
class Piece:
    """Some units of one place.

    Attributes:
        place: dotted path of the module that is timed.
        sublayer: what in it they touch; empty where that is all of it.
        units: positions in the genome of those that narrow it.
        drop: position of the one that takes it away, or None.
    """

    place: str
    sublayer: str
    units: tuple[int, ...]
    drop: int | None = None

    def combinations(self, space: Space) -> list[tuple[int, ...]]:
        """Every combination of their levels; the last unit's run fastest."""
        return list(itertools.product(*(range(len(space.units[i].levels)) for i in self.units)))


def at_levels(space: Space, pieces: Sequence[Piece], levels: Sequence[int]) -> Genome:
    """Dense but for the units of some pieces, each at its level."""
    genome = np.zeros(len(space.units), dtype=np.int16)
    for piece in pieces:
        genome[list(piece.units)] = levels
    return Genome.of(genome)


def without(space: Space, pieces: Sequence[Piece]) -> Genome:
    """Dense but for some pieces, which are dropped."""
    genome = np.zeros(len(space.units), dtype=np.int16)
    genome[[piece.drop for piece in pieces if piece.drop is not None]] = 1
    return Genome.of(genome)


def pieces_of(network: Network, space: Space, model: nn.Module) -> list[Piece]:
    """All pieces that some unit changes; sparsity changes none."""
    return _in_blocks(network, space) if network.blocks else _in_layers(network, space, model)


def _in_blocks(network: Network, space: Space) -> list[Piece]:
    groups: dict[tuple[int, str], list[int]] = {}
    for position, unit in enumerate(space.units):
        if unit.is_cut or unit.is_drop:
            groups.setdefault((unit.block, _sublayer(network, unit.name)), []).append(position)
    found = []
    for (block, sublayer), positions in groups.items():
        drop = next((i for i in positions if space.units[i].is_drop), None)
        place = network.blocks[block]
        narrowing = tuple(i for i in positions if i != drop)
        found.append(Piece(place, sublayer.removeprefix(place), narrowing, drop))
    return found


def _sublayer(network: Network, name: str) -> str:
    """What can be left out together with what a unit cuts, or else what it cuts."""
    if name in network.drops:
        return name
    cut = network.cuts[name]
    tensors = [slot.tensor for slot in (*cut.writers, *cut.readers)]
    own = (drop.name for drop in network.drops.values() if any(drop.takes(tensor) for tensor in tensors))
    return next(own, cut.path)


def _in_layers(network: Network, space: Space, model: nn.Module) -> list[Piece]:
    position = {unit.name: i for i, unit in enumerate(space.units)}
    touching: dict[str, set[int]] = {}
    for cut in network.cuts.values():
        if cut.name in position:
            for slot in (*cut.writers, *cut.readers):
                touching.setdefault(slot.tensor.rpartition(".")[0], set()).add(position[cut.name])
    return [
        Piece(place, "", tuple(sorted(units)))
        for place, units in touching.items()
        if isinstance(model.get_submodule(place), tuple(SIZES))
    ]


def inputs_of(samples: Samples, task: Task, setting: Setting, model: nn.Module) -> Inputs:
    """A batch of one sample over and over; texts are as long as the prompt."""
    first = samples.rows([0] * setting.batch)
    if task.data == "image":
        return first.inputs(model)
    arrays = {name: np.resize(array, (setting.batch, setting.prompt)) for name, array in first.arrays.items()}
    return Samples(arrays).inputs(model)


def request(model: Any, task: Task, inputs: Inputs, generated: int) -> None:
    """Answer a request: read what is given, and generate with a cache."""
    if not task.generates:
        task.call(model, inputs)
        return
    takes = inspect.signature(model.forward).parameters
    # The next token needs no more than the last logits.
    last = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
    if not generated:
        model(**inputs, use_cache=False, **last)
        return
    held = {"cache" if "cache" in takes else "past_key_values": DynamicCache(config=model.config)}
    outputs = model(**inputs, use_cache=True, **held, **last)
    for _ in range(generated):
        token = outputs.logits[:, -1:].argmax(dim=-1)
        outputs = model(input_ids=token, use_cache=True, **held)


def inputs_in(model: Any, places: Sequence[str], task: Task, inputs: Inputs) -> dict[str, torch.Tensor]:
    """What each layer is given in the network, by place."""
    given: dict[str, torch.Tensor] = {}
    hooks = [
        model.get_submodule(place).register_forward_pre_hook(
            lambda _, args, place=place: given.setdefault(place, args[0])
        )
        for place in places
    ]
    try:
        task.call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return given


def copy_of(model: nn.Module, place: str, elastic: Elastic, genome: Genome) -> Any:
    """The module at a place (the whole network for '') as a genome has it, with tensors of its own."""
    within = f"{place}." if place else ""
    with elastic.running(genome) as running:
        copied = copy.deepcopy(model.get_submodule(place))
        for name, tensor in running.tensors.items():
            if name.startswith(within):
                path, _, leaf = name.removeprefix(within).rpartition(".")
                set_tensor(
                    copied.get_submodule(path), leaf, tensor.detach().clone(memory_format=torch.contiguous_format)
                )
    return copied


def narrowed(layer: nn.Module, given: torch.Tensor) -> torch.Tensor:
    """As many input channels as a layer that was narrowed takes."""
    axis = -1 if isinstance(layer, nn.Linear) else 1
    size = next(name for kind, name in SIZES.items() if isinstance(layer, kind))
    return given.narrow(axis, 0, getattr(layer, size)).contiguous()


def signature(model: nn.Module, piece: Piece, space: Space, given: torch.Tensor | None = None) -> str:
    """Equal for pieces that take equally long, whether they can be dropped or not."""
    module = model.get_submodule(piece.place)
    shapes = [f"{name}{tuple(p.shape)}" for name, p in (*module.named_parameters(), *module.named_buffers())]
    windows = [str(w) for m in module.modules() if (w := getattr(m, "sliding_window", None)) is not None]
    units = (space.units[i] for i in piece.units)
    told = [f"{unit.module.removeprefix(piece.place)}.{unit.kind}{unit.levels}" for unit in units]
    inputs = [] if given is None else [str(tuple(given.shape))]
    return " ".join([repr(module), piece.sublayer, *inputs, *windows, *shapes, *told])
