"""Channel groups of any module, from Torch-Pruning's dependency graph, as cuts that are proved by execution.

The graph says which channels of which layers are cut together (through residual sums, concatenations, depthwise and
grouped convolutions, gates). A group becomes a cut only if `cut_proof` confirms it.
"""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sparsesearch.errors import first_line
from sparsesearch.models.network import Attribute, Cut, Index, Matrix, Slot
from sparsesearch.models.tracing.cut_proof import is_equivalent, tensor_of
from sparsesearch.models.tracing.forward_pass import Call, Inputs
from sparsesearch.models.tracing.layers import CONVOLUTIONS, kernel_cut
from sparsesearch.space.cost import CUTS


class Member(NamedTuple):
    """A layer of a channel group.

    Attributes:
        outward: whether its outputs are cut, rather than its inputs.
        pairs: (position among its outputs or inputs, channel of the group).
    """

    path: str
    outward: bool
    pairs: list[tuple[int, int]]


def channel_cuts(
    module: nn.Module,
    inputs: Inputs,
    call: Call,
    matrices: Mapping[str, Matrix],
    blocks: Mapping[str, int],
    tied_layers: Collection[str],
) -> tuple[list[Cut], list[str]]:
    """Return the cuts of channels and kernels of a module, and the reasons why other channels cannot be cut.

    Args:
        inputs: arguments of `forward`, (samples, ...) each.
        matrices: matrices that cuts may read or write, by name.
        blocks: block of each prunable layer, by path.
        tied_layers: paths of layers that share parameters.
    """
    cuts: list[Cut] = []
    reasons: list[str] = []
    cuts_of_tensor: dict[str, int] = defaultdict(int)
    try:
        groups = _groups(module, inputs, call)
    except Exception as error:  # the tracer fails in many ways
        groups = []
        reasons.append(f"channels cannot be cut: {type(module).__name__} cannot be traced ({first_line(error)})")
    for members in groups:
        cut = _cut_of(module, members, matrices, blocks)
        layers = sorted(
            {member.path for member in members if member.outward and member.path in blocks},
            key=lambda path: blocks[path],
        )
        if not layers:  # layers that cannot be pruned have their own reasons
            continue
        if tied := sorted({member.path for member in members} & {*tied_layers}):
            reasons.append(f"channels of {', '.join(layers)} cannot be cut: {', '.join(tied)} share weights")
            continue
        if cut is None or not is_equivalent(module, cut, inputs, call):
            reasons.append(f"channels of {', '.join(layers)} cannot be cut: no cut of them leaves the same function")
            continue
        tensors = {slot.tensor for slot in (*cut.writers, *cut.readers)}
        if any(cuts_of_tensor[name] == CUTS for name in tensors):
            reasons.append(f"channels of {', '.join(layers)} cannot be cut: they are joined with too many others")
            continue
        for name in tensors:
            cuts_of_tensor[name] += 1
        cuts.append(cut)
    kernels = (kernel_cut(module.get_submodule(path), path, block) for path, block in blocks.items())
    untied = [kernel for kernel in kernels if kernel and kernel.path not in tied_layers]
    # A kernel has two slots in its weight.
    return cuts + [kernel for kernel in untied if cuts_of_tensor[f"{kernel.path}.weight"] + 2 <= CUTS], reasons


def _groups(module: nn.Module, inputs: Inputs, call: Call) -> list[list[Member]]:
    """Return Torch-Pruning's groups as plain data."""
    import torch_pruning as tp

    copied = copy.deepcopy(module).requires_grad_(True)
    names = {id(layer): path for path, layer in copied.named_modules()}
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        graph = tp.DependencyGraph().build_dependency(
            copied, example_inputs=tuple(inputs), forward_fn=call, verbose=False
        )
        traced_groups = list(graph.get_all_groups(root_module_types=[*CONVOLUTIONS, nn.Linear]))
    groups = []
    for group in traced_groups:
        members = []
        for item in group.items:
            path = names.get(id(item.dep.target.module))
            if path is None:
                continue
            outward = graph.is_out_channel_pruning_fn(item.dep.handler)
            pairs = [(int(i.idx), int(i.root_idx)) if hasattr(i, "idx") else (int(i), int(i)) for i in item.idxs]
            members.append(Member(path, outward, pairs))
        groups.append(members)
    return groups


def _cut_of(
    module: nn.Module, members: list[Member], matrices: Mapping[str, Matrix], blocks: Mapping[str, int]
) -> Cut | None:
    """Return the cut of a group; None for an output layer, or if positions and channels do not fit."""
    channels = len(members[0].pairs)
    # Groups of a grouped convolution keep equally many channels: one of each is an element.
    fold = max((_fold_of(module.get_submodule(member.path)) for member in members), default=1)
    if channels % fold or channels // fold < 2:
        return None
    elements = channels // fold
    writers: list[Slot] = []
    readers: list[Slot] = []
    attributes: list[Attribute] = []
    for path, outward, pairs in members:
        layer: Any = module.get_submodule(path)
        index = _index(pairs, channels, elements)
        if index is None:
            return None
        if isinstance(layer, (nn.Linear, *CONVOLUTIONS)) and not _is_depthwise(layer):
            if outward:
                writers += [Slot(f"{path}.{leaf}", 0, index) for leaf in ("weight", "bias") if _has(layer, leaf)]
            else:
                width = layer.weight.shape[1]
                if fold > 1 and _fold_of(layer) == fold:
                    index = np.arange(elements, dtype=np.int64).reshape(1, elements, 1)
                if index.max() >= width:
                    return None
                readers.append(Slot(f"{path}.weight", 1, index))
        elif _is_depthwise(layer):
            if not outward:
                continue  # the inputs are the same channels as the outputs
            writers += [Slot(f"{path}.{leaf}", 0, index) for leaf in ("weight", "bias") if _has(layer, leaf)]
            attributes.append(Attribute(path, "groups", index.shape[2]))
        else:
            leaves = ("weight", "bias", "running_mean", "running_var")
            writers += [Slot(f"{path}.{leaf}", 0, index) for leaf in leaves if _has(layer, leaf)]
    names = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    if not readers or not writers or not {slot.tensor for slot in writers} <= names:
        return None
    if not {slot.tensor for slot in readers} <= {*matrices}:
        return None
    if any(slot.index.max() >= tensor_of(module, slot.tensor).shape[slot.axis] for slot in writers):
        return None
    root = min(
        (s.tensor.rpartition(".")[0] for s in writers if s.tensor in matrices), key=blocks.__getitem__, default=""
    )
    if not root:
        return None
    return Cut("channels", root, blocks[root], elements, tuple(writers), tuple(readers), tuple(attributes))


def _fold_of(layer: Any) -> int:
    """Return the number of groups of a grouped convolution; 1 for other layers, also depthwise ones."""
    return layer.groups if isinstance(layer, CONVOLUTIONS) and not _is_depthwise(layer) else 1


def _is_depthwise(layer: Any) -> bool:
    if not isinstance(layer, CONVOLUTIONS) or layer.groups == 1:
        return False
    return layer.groups == layer.in_channels == layer.out_channels


def _has(layer: Any, leaf: str) -> bool:
    return getattr(layer, leaf, None) is not None


def _index(pairs: list[tuple[int, int]], channels: int, elements: int) -> Index | None:
    """Return positions by element, (1, elements, span); None if elements do not have equally many positions."""
    if len(pairs) % channels:
        return None
    if len(pairs) > channels or any(channel >= channels for _, channel in pairs):
        # Flattened, or joined with other channels: the positions of each channel follow one another.
        span = len(pairs) // channels
        pairs = [(position, i // span) for i, position in enumerate(sorted(p for p, _ in pairs))]
    positions: dict[int, list[int]] = defaultdict(list)
    for position, channel in pairs:
        positions[channel % elements].append(position)
    if len(positions) != elements or len({len(p) for p in positions.values()}) != 1:
        return None
    return np.array([[sorted(positions[e]) for e in range(elements)]], dtype=np.int64)
