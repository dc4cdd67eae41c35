"""Describing any module by tracing it: channel groups from Torch-Pruning's dependency graph, each proved by execution.

The graph says which channels of which layers go together (through residual sums, concatenations, depthwise and grouped
convolutions, gates). What it says is tried on the module itself before it is believed: with half of a group's channels
cut, the module must put out what it puts out when the matrices that read these channels ignore them.
"""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from sparsesearch.errors import InputError
from sparsesearch.models.network import Attribute, Cut, Index, Matrix, Network, Slot
from sparsesearch.models.parts import kernel_cut, matrix_of, meetings
from sparsesearch.models.surgery import set_attribute, set_tensor
from sparsesearch.models.task import TASKS, Task
from sparsesearch.space.cost import CUTS

# Relative difference of outputs that still counts as rounding.
TOLERANCE = 1e-3
Inputs = Sequence[torch.Tensor]
Call = Callable[[nn.Module, Inputs], torch.Tensor]


def describe_module(module: nn.Module, inputs: Inputs, task: Task = TASKS["module"]) -> Network:
    """The parts of a module.

    Args:
        module: with real weights; it is not changed.
        inputs: what `forward` takes, one sample or more each.
        task: what it is for; a model of transformers is called as its task says.

    Raises InputError SS210 where the module cannot be traced, SS211 where it returns no tensor of logits.
    """
    module = copy.deepcopy(module).cpu().eval().requires_grad_(False)
    inputs = [tensor.cpu() for tensor in inputs]
    names = ["pixel_values"] if task.auto_class else [str(i) for i in range(len(inputs))]

    def call(network: nn.Module, tensors: Inputs) -> torch.Tensor:
        return task.call(network, dict(zip(names, tensors, strict=True)))

    order, positions, outputs = _run(module, inputs, call)
    blocks = {path: i for i, path in enumerate(order)}
    tied = tied_parameters(module)
    tied_layers = {name.rpartition(".")[0] for name in tied}
    own = [path for path in order if path not in tied_layers]
    found = [matrix_of(module.get_submodule(path), path, blocks[path], path, positions[path]) for path in own]
    matrices = {matrix.name: matrix for matrix in found}
    cuts, limits = _cuts(module, inputs, call, matrices, blocks, tied_layers)
    applied: dict[str, int] = defaultdict(int)
    if shared := sorted({*order} - {*own}):
        limits.append(f"{', '.join(shared)} share weights with each other and stay as they are")
    for path in shared:
        applied[tied.get(f"{path}.weight", f"{path}.weight")] += positions[path]
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    return Network(
        model_type=type(module).__name__,
        task=task,
        hidden=0,
        values=outputs.shape[2],
        positions=outputs.shape[1],
        max_length=1,
        blocks=tuple(order),
        blockwise=False,
        matrices=matrices,
        cuts={cut.name: cut for cut in cuts},
        drops={},
        attentions=(),
        shapes=shapes,
        applied=dict(applied),
        limits=tuple(limits),
    )


def tied_parameters(module: nn.Module) -> dict[str, str]:
    """For every name of a parameter that has several the one that `named_parameters` knows it by."""
    first: dict[int, str] = {}
    names = [(name, first.setdefault(id(p), name)) for name, p in module.named_parameters(remove_duplicate=False)]
    several = {known for name, known in names if name != known}
    return {name: known for name, known in names if known in several}


def _run(module: nn.Module, inputs: Inputs, call: Call) -> tuple[list[str], dict[str, int], torch.Tensor]:
    """Weighted layers in order of execution, how often a sample meets each, and the outputs."""
    try:
        with torch.no_grad(), meetings(module, len(inputs[0])) as met:
            outputs = call(module, inputs)
    except InputError:
        raise
    except Exception as error:  # whatever a user's module raises on inputs that do not fit it
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise InputError(
            "SS210", f"{type(module).__name__} does not run on inputs of shape {shapes}: {first_line.rstrip('.')}.",
            "Give example inputs that fit it.",
        ) from None  # fmt: skip
    if not met:
        raise InputError("SS210", f"{type(module).__name__} has no linear or convolution layer to prune.")
    return list(met), met, outputs


def _cuts(
    module: nn.Module,
    inputs: Inputs,
    call: Call,
    matrices: dict[str, Matrix],
    blocks: dict[str, int],
    tied_layers: set[str],
) -> tuple[list[Cut], list[str]]:
    """Channel groups that can be cut, and which cannot and why."""
    cuts: list[Cut] = []
    limits: list[str] = []
    taken: dict[str, int] = defaultdict(int)
    for members in _groups(module, inputs, call):
        cut = _cut(module, members, matrices, blocks)
        layers = sorted(
            {path for path, outward, _ in members if outward and path in blocks}, key=lambda path: blocks[path]
        )
        if tied := sorted({path for path, _, _ in members} & tied_layers):
            limits.append(f"channels of {', '.join(layers)} cannot be cut: {', '.join(tied)} share weights")
            continue
        if cut is None or not _holds(module, cut, inputs, call):
            limits.append(f"channels of {', '.join(layers)} cannot be cut: no cut of them leaves the same function")
            continue
        tensors = {slot.tensor for slot in (*cut.writers, *cut.readers)}
        if any(taken[name] == CUTS for name in tensors):
            limits.append(f"channels of {', '.join(layers)} cannot be cut: they are joined with too many others")
            continue
        for name in tensors:
            taken[name] += 1
        cuts.append(cut)
    kernels = (kernel_cut(module.get_submodule(path), path, block) for path, block in blocks.items())
    whole = [kernel for kernel in kernels if kernel and kernel.path not in tied_layers]
    # A kernel has two slots in its weight.
    return cuts + [kernel for kernel in whole if taken[f"{kernel.path}.weight"] + 2 <= CUTS], limits


# (path of a layer, whether its outputs go, (position, element) pairs)
Member = tuple[str, bool, list[tuple[int, int]]]


def _groups(module: nn.Module, inputs: Inputs, call: Call) -> list[list[Member]]:
    """Torch-Pruning's groups as plain data."""
    import torch_pruning as tp

    copied = copy.deepcopy(module).requires_grad_(True)
    names = {id(layer): path for path, layer in copied.named_modules()}
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            graph = tp.DependencyGraph().build_dependency(
                copied, example_inputs=tuple(inputs), forward_fn=call, verbose=False
            )
            found = list(graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]))
    except Exception as error:  # the tracer fails in many ways
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            "SS210", f"{type(module).__name__} cannot be traced: {first_line.rstrip('.')}.",
            "Its forward must be made of differentiable torch operations; unstructured sparsity works without tracing.",
        ) from None  # fmt: skip
    groups = []
    for group in found:
        members = []
        for item in group.items:
            path = names.get(id(item.dep.target.module))
            if path is None:
                continue
            outward = graph.is_out_channel_pruning_fn(item.dep.handler)
            pairs = [(int(i.idx), int(i.root_idx)) if hasattr(i, "idx") else (int(i), int(i)) for i in item.idxs]
            members.append((path, outward, pairs))
        groups.append(members)
    return groups


def _cut(module: nn.Module, members: list[Member], matrices: dict[str, Matrix], blocks: dict[str, int]) -> Cut | None:
    """The cut that a group says; None where it is none (an output layer) or makes no sense."""
    channels = len(members[0][2])
    # Groups of a grouped convolution keep equally many channels: one of each is an element.
    fold = max((_folds(module.get_submodule(path)) for path, _, _ in members), default=1)
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
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and not _is_depthwise(layer):
            if outward:
                writers += [Slot(f"{path}.{leaf}", 0, index) for leaf in ("weight", "bias") if _has(layer, leaf)]
            else:
                within = layer.weight.shape[1]
                if fold > 1 and _folds(layer) == fold:
                    index = np.arange(elements, dtype=np.int64).reshape(1, elements, 1)
                if index.max() >= within:
                    return None
                readers.append(Slot(f"{path}.weight", 1, index))
        elif _is_depthwise(layer):
            if not outward:
                continue  # the same channels, named twice
            writers += [Slot(f"{path}.{leaf}", 0, index) for leaf in ("weight", "bias") if _has(layer, leaf)]
            attributes.append(Attribute(path, "groups", index.shape[2]))
        else:
            leaves = ("weight", "bias", "running_mean", "running_var")
            writers += [Slot(f"{path}.{leaf}", 0, index) for leaf in leaves if _has(layer, leaf)]
    if not readers or not writers:
        return None
    if any(slot.index.max() >= _tensor(module, slot.tensor).shape[slot.axis] for slot in writers):
        return None
    root = min(
        (s.tensor.rpartition(".")[0] for s in writers if s.tensor in matrices), key=blocks.__getitem__, default=""
    )
    if not root:
        return None
    return Cut("channels", root, blocks[root], elements, tuple(writers), tuple(readers), tuple(attributes))


def _folds(layer: Any) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) and not _is_depthwise(layer) else 1


def _is_depthwise(layer: Any) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups > 1 and layer.groups == layer.in_channels


def _has(layer: Any, leaf: str) -> bool:
    return getattr(layer, leaf, None) is not None


def _index(pairs: list[tuple[int, int]], channels: int, elements: int) -> Index | None:
    """Positions by element, (1, elements, span); None where elements have unequally many."""
    if len(pairs) % channels:
        return None
    if len(pairs) > channels or any(channel >= channels for _, channel in pairs):
        # Flattened or joined with others: each channel's positions follow one another.
        span = len(pairs) // channels
        pairs = [(position, i // span) for i, position in enumerate(sorted(p for p, _ in pairs))]
    positions: dict[int, list[int]] = defaultdict(list)
    for position, channel in pairs:
        positions[channel % elements].append(position)
    if len(positions) != elements or len({len(p) for p in positions.values()}) != 1:
        return None
    return np.array([[sorted(positions[e]) for e in range(elements)]], dtype=np.int64)


def _tensor(module: nn.Module, name: str) -> torch.Tensor:
    path, _, leaf = name.rpartition(".")
    tensor: torch.Tensor = getattr(module.get_submodule(path), leaf)
    return tensor.data


def _holds(module: nn.Module, cut: Cut, inputs: Inputs, call: Call) -> bool:
    """Whether cutting half of the elements equals ignoring them."""
    kept = torch.arange(0, cut.elements, 2)[None]
    smaller, ignoring = copy.deepcopy(module), copy.deepcopy(module)
    for slot in (*cut.writers, *cut.readers):
        path, _, leaf = slot.tensor.rpartition(".")
        value = _tensor(smaller, slot.tensor)
        positions = slot.staying(kept, value.shape[slot.axis]).nonzero().flatten()
        set_tensor(smaller.get_submodule(path), leaf, value.index_select(slot.axis, positions))
        if slot in cut.readers:
            value = _tensor(ignoring, slot.tensor)
            zeroed = torch.zeros_like(value).index_copy_(slot.axis, positions, value.index_select(slot.axis, positions))
            set_tensor(ignoring.get_submodule(path), leaf, zeroed)
    for attribute in cut.attributes:
        set_attribute(smaller.get_submodule(attribute.module), attribute.name, attribute.per_element * kept.shape[1])
    try:
        return all(_agree(smaller, ignoring, sized, call) for sized in _sizes(inputs))
    except Exception:  # shapes that do not fit each other: the group is wrong
        return False


def _agree(smaller: nn.Module, ignoring: nn.Module, inputs: Inputs, call: Call) -> bool:
    with torch.no_grad():
        expected, found = call(ignoring, inputs), call(smaller, inputs)
    scale = float(expected.abs().max()) + 1e-6
    return found.shape == expected.shape and float((found - expected).abs().max()) <= TOLERANCE * scale


def _sizes(inputs: Inputs) -> list[list[torch.Tensor]]:
    """Random inputs of the shapes given, and of twice as many samples."""
    generator = torch.Generator().manual_seed(0)

    def like(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        if not dtype.is_floating_point:
            return torch.zeros(shape, dtype=dtype)
        return torch.randn(shape, generator=generator, dtype=dtype)

    plain = [like(tensor.shape, tensor.dtype) for tensor in inputs]
    doubled = [like((2 * len(tensor), *tensor.shape[1:]), tensor.dtype) for tensor in inputs]
    return [plain, doubled]
