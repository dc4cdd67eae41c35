"""The pieces of a network's latency: sublayers of blocks, or layers if there are no blocks.

Units that touch the same sublayer (or layer) make one piece, which is timed at each combination of their levels. Equal
sublayers are narrowed together in the complete network, so that their savings are measured in place, with the weights
of all other layers between their calls; layers are timed alone.
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
from sparsesearch.models.network import Network
from sparsesearch.models.surgery import set_tensor
from sparsesearch.models.task import Inputs, Task
from sparsesearch.models.tracing.layers import CONVOLUTIONS
from sparsesearch.space import Genome, Space
from sparsesearch.supernet.elastic import ElasticSupernet

# Attributes with the number of input channels of layers that can be timed alone.
INPUT_SIZES: dict[type[nn.Module], str] = {
    nn.Linear: "in_features",
    **dict.fromkeys(CONVOLUTIONS, "in_channels"),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), "num_features"),
}


@dataclass(frozen=True)
class Piece:
    """The units of one sublayer or layer.

    Attributes:
        place: dotted path of the module that is timed.
        sublayer: path of the sublayer in it; empty for the complete module.
        units: positions in the genome of the units that narrow it.
        drop: position of the unit that drops it, or None.
    """

    place: str
    sublayer: str
    units: tuple[int, ...]
    drop: int | None = None

    def combinations(self, space: Space) -> list[tuple[int, ...]]:
        """Return every combination of the units' levels, the last unit's running fastest."""
        return list(itertools.product(*(range(len(space.units[i].levels)) for i in self.units)))


def genome_at_levels(space: Space, pieces: Sequence[Piece], levels: Sequence[int]) -> Genome:
    """Return a genome with the units of each piece at these levels, and all other units dense."""
    genome = np.zeros(len(space.units), dtype=np.int16)
    for piece in pieces:
        genome[list(piece.units)] = levels
    return Genome.of(genome)


def genome_without(space: Space, pieces: Sequence[Piece]) -> Genome:
    """Return a genome with some pieces dropped, and all other units dense."""
    genome = np.zeros(len(space.units), dtype=np.int16)
    genome[[piece.drop for piece in pieces if piece.drop is not None]] = 1
    return Genome.of(genome)


def pieces_of(network: Network, space: Space, model: nn.Module) -> list[Piece]:
    """Return all pieces that some unit narrows or drops; sparsity changes no latency."""
    return _in_blocks(network, space) if network.blocks else _in_layers(network, space, model)


def _in_blocks(network: Network, space: Space) -> list[Piece]:
    groups: dict[tuple[int, str], list[int]] = {}
    for position, unit in enumerate(space.units):
        if unit.is_cut or unit.is_drop:
            groups.setdefault((unit.block, _sublayer(network, unit.name)), []).append(position)
    pieces = []
    for (block, sublayer), positions in groups.items():
        drop = next((i for i in positions if space.units[i].is_drop), None)
        place = network.blocks[block]
        narrowing = tuple(i for i in positions if i != drop)
        pieces.append(Piece(place, sublayer.removeprefix(place), narrowing, drop))
    return pieces


def _sublayer(network: Network, name: str) -> str:
    """Return the name of the drop unit of the sublayer that a unit cuts or drops; else the path of the cut."""
    if name in network.drops:
        return name
    cut = network.cuts[name]
    tensors = [slot.tensor for slot in (*cut.writers, *cut.readers)]
    drops = (drop.name for drop in network.drops.values() if any(drop.removes(tensor) for tensor in tensors))
    return next(drops, cut.path)


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
        if isinstance(model.get_submodule(place), tuple(INPUT_SIZES))
    ]


def request_inputs(samples: Samples, task: Task, setting: Setting, model: nn.Module) -> Inputs:
    """Return a batch of the first sample, repeated; texts are repeated or cut to the length of the prompt."""
    first = samples.rows([0] * setting.batch)
    if task.data == "image":
        return first.inputs(model)
    arrays = {name: np.resize(array, (setting.batch, setting.prompt)) for name, array in first.arrays.items()}
    return Samples(arrays).inputs(model)


def run_request(model: Any, task: Task, inputs: Inputs, generated: int) -> None:
    """Run one request: read the inputs, then generate tokens with a KV cache."""
    if not task.generates:
        task.call(model, inputs)
        return
    parameters = inspect.signature(model.forward).parameters
    # The next token needs only the last logits.
    last = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
    if not generated:
        model(**inputs, use_cache=False, **last)
        return
    cache = {"cache" if "cache" in parameters else "past_key_values": DynamicCache(config=model.config)}
    outputs = model(**inputs, use_cache=True, **cache, **last)
    for _ in range(generated):
        token = outputs.logits[:, -1:].argmax(dim=-1)
        outputs = model(input_ids=token, use_cache=True, **cache)


def layer_inputs(model: Any, places: Sequence[str], task: Task, inputs: Inputs) -> dict[str, torch.Tensor]:
    """Return the inputs of each layer in one run of the network, by place."""
    by_place: dict[str, torch.Tensor] = {}
    hooks = [
        model.get_submodule(place).register_forward_pre_hook(
            lambda _, args, place=place: by_place.setdefault(place, args[0])
        )
        for place in places
    ]
    try:
        task.call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return by_place


def copy_module(model: nn.Module, place: str, elastic: ElasticSupernet, genome: Genome) -> Any:
    """Return a copy of the module at a place (the network for '') with a genome's tensors."""
    prefix = f"{place}." if place else ""
    with elastic.running(genome) as running:
        copied = copy.deepcopy(model.get_submodule(place))
        for name, tensor in running.tensors.items():
            if name.startswith(prefix):
                path, _, leaf = name.removeprefix(prefix).rpartition(".")
                set_tensor(
                    copied.get_submodule(path), leaf, tensor.detach().clone(memory_format=torch.contiguous_format)
                )
    return copied


def narrow_inputs(layer: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return the first channels of dense inputs, as many as a narrowed layer reads.

    Args:
        inputs: (..., channels) of a linear layer, (samples, channels, ...) of any other.
    """
    axis = -1 if isinstance(layer, nn.Linear) else 1
    size = next(name for kind, name in INPUT_SIZES.items() if isinstance(layer, kind))
    return inputs.narrow(axis, 0, getattr(layer, size)).contiguous()


def signature(model: nn.Module, piece: Piece, space: Space, inputs: torch.Tensor | None = None) -> str:
    """Return a text that is equal for pieces of equal latency, whether they can be dropped or not."""
    module = model.get_submodule(piece.place)
    shapes = [f"{name}{tuple(p.shape)}" for name, p in (*module.named_parameters(), *module.named_buffers())]
    windows = [str(w) for m in module.modules() if (w := getattr(m, "sliding_window", None)) is not None]
    units = (space.units[i] for i in piece.units)
    levels = [f"{unit.module.removeprefix(piece.place)}.{unit.kind}{unit.levels}" for unit in units]
    input_shape = [] if inputs is None else [str(tuple(inputs.shape))]
    return " ".join([repr(module), piece.sublayer, *input_shape, *windows, *shapes, *levels])
