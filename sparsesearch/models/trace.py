"""Describing any module by tracing it: channel groups from Torch-Pruning's dependency graph, each proved by execution.

The graph says which channels of which layers go together (through residual sums, concatenations, depthwise and grouped
convolutions, gates). What it says is tried on the module itself before it is believed: with some of a group's channels
cut, whichever and however many, the module must put out what it puts out when the matrices that read these channels
ignore them.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from sparsesearch.errors import InputError, first_line, problem
from sparsesearch.models.builder import CONVOLUTIONS, LAYERS, is_plain, kernel_cut, matrix_of, meetings, weighted
from sparsesearch.models.copying import own_copy, placed
from sparsesearch.models.network import Attribute, Cut, Index, Matrix, Network, Slot
from sparsesearch.models.surgery import set_attribute, set_tensor
from sparsesearch.models.task import TASKS, Task, along, module_outputs
from sparsesearch.space.cost import CUTS

# Relative difference of outputs that still counts as rounding.
TOLERANCE = 1e-3
# How torch multiplies activations with each other.
PRODUCTS = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
Inputs = Sequence[torch.Tensor]
Call = Callable[[nn.Module, Inputs], torch.Tensor]


@dataclass(frozen=True)
class Seen:
    """What one pass through a module shows.

    Attributes:
        met: how often a sample meets each layer, in order of execution.
        axis: of what it returns, along which the values lie.
        outputs: what the task makes of it.
        macs: multiply-accumulates a sample with weights, and of activations with each other; None where torch cannot
            count them.
    """

    met: dict[str, int]
    task: Task
    axis: int
    outputs: torch.Tensor
    macs: tuple[int, int] | None


def describe_module(
    module: nn.Module, inputs: Inputs, task: Task = TASKS["module"], batches: Iterable[Inputs] = ()
) -> Network:
    """The parts of a module.

    Args:
        module: with real weights; it is not changed.
        inputs: what `forward` takes, one sample or more each.
        task: what it is for; a model of transformers is called as its task says.
        batches: of the data that it will run on; layers that none of them reaches are left out.

    Raises InputError SS210 where the module does not run, SS211 where it returns no tensor of logits.
    """
    module = placed(own_copy(module), "cpu", torch.float32)
    inputs = _on_cpu(inputs)
    seen = _seen(module, inputs, task)
    call = _caller(seen.task, len(inputs))
    reached = _reached(module, seen.met, batches, call)
    order, limits = _left_out(module, inputs, call, reached, seen.met)
    tied = tied_parameters(module)
    tied_layers = {name.rpartition(".")[0] for name in tied}
    positions = {path: seen.met.get(path, reached[path]) for path in order}
    blocks = {path: i for i, path in enumerate(order)}
    own = [path for path in order if path not in tied_layers]
    found = [matrix_of(module.get_submodule(path), path, blocks[path], path, positions[path]) for path in own]
    matrices = {matrix.name: matrix for matrix in found}
    cuts, uncut = _cuts(module, inputs, call, matrices, blocks, tied_layers)
    applied: dict[str, int] = defaultdict(int)
    if shared := sorted({*order} - {*own}):
        limits.append(f"{', '.join(shared)} share weights with each other and stay as they are")
    for path in shared:
        applied[tied.get(f"{path}.weight", f"{path}.weight")] += positions[path]
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    counted = sum(m.positions * m.size for m in found) + sum(n * math.prod(shapes[name]) for name, n in applied.items())
    rest, uncounted = _rest_macs(seen.macs, counted)
    return Network(
        model_type=type(module).__name__,
        task=seen.task,
        hidden=0,
        values=seen.outputs.shape[2],
        positions=seen.outputs.shape[1],
        max_length=1,
        blocks=tuple(order),
        blockwise=False,
        matrices=matrices,
        cuts={cut.name: cut for cut in cuts},
        drops={},
        attentions=(),
        shapes=shapes,
        applied=dict(applied),
        limits=tuple(uncut + limits + uncounted),
        axis=seen.axis,
        distribution=seen.outputs.shape[2] > 1 and not task.embeds,
        rest_macs=rest,
    )


def _rest_macs(macs: tuple[int, int] | None, counted: int) -> tuple[int, list[str]]:
    """Multiply-accumulates of weights that no unit touches, and what macs leave out, in words.

    Args:
        macs: of weights, and of products of activations; None where torch counts none.
        counted: those of layers that units can touch.
    """
    if macs is None:
        return 0, ["multiply-accumulates beside those of these layers are not counted among macs"]
    weights, products = macs
    rest, limits = max(weights - counted, 0), []
    if rest:
        limits.append(f"{rest:,} of {weights:,} macs are of weights that no unit touches: they count as they are")
    if products:
        limits.append(f"products of activations (attention), {products:,} multiply-accumulates, are not among macs")
    return rest, limits


def _on_cpu(inputs: Inputs) -> list[torch.Tensor]:
    """Inputs as a module in float32 takes them."""
    return [t.cpu().float() if t.is_floating_point() else t.cpu() for t in inputs]


def _caller(task: Task, count: int) -> Call:
    """Runs a module on `count` inputs."""
    names = ["pixel_values"] if task.auto_class else [str(i) for i in range(count)]
    return lambda module, tensors: task.call(module, dict(zip(names, tensors, strict=True)))


def tied_parameters(module: nn.Module) -> dict[str, str]:
    """For every name of a parameter that has several the one that `named_parameters` knows it by."""
    first: dict[int, str] = {}
    names = [(name, first.setdefault(id(p), name)) for name, p in module.named_parameters(remove_duplicate=False)]
    several = {known for name, known in names if name != known}
    return {name: known for name, known in names if known in several}


def _seen(module: nn.Module, inputs: Inputs, task: Task) -> Seen:
    """What a pass over inputs shows; raises InputError SS210 where there is none."""
    with _running(module, inputs):
        axis = -1 if task.auto_class else _axis(module, inputs)
        task = task if task.auto_class else along(task, axis)
        call = _caller(task, len(inputs))
        with torch.no_grad(), meetings(module, len(inputs[0])) as met:
            outputs = call(module, inputs)
    return Seen(dict(met), task, axis, outputs, _macs(module, [tensor[:1] for tensor in inputs], call))


@contextmanager
def _running(module: nn.Module, inputs: Inputs) -> Iterator[None]:
    """Turn whatever a user's module raises on inputs that do not fit it into InputError SS210."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise problem(
            "SS210",
            f"{type(module).__name__} does not run on inputs of shape {shapes}: {first_line(error)}.",
            fix="Give example inputs that fit it.",
        ) from None


def _axis(module: nn.Module, inputs: Inputs) -> int:
    """The axis of the module's outputs along which its last layer writes: 1 of convolutions, the last one of others."""
    last: list[Any] = []
    kinds = (*LAYERS, _ConvNd, nn.RNNBase, nn.LayerNorm, nn.MultiheadAttention)
    hooks = [
        layer.register_forward_hook(lambda layer, *_: last.append(layer))
        for layer in module.modules()
        if isinstance(layer, kinds)
    ]
    try:
        with torch.no_grad():
            outputs = module_outputs(module, {str(i): tensor for i, tensor in enumerate(inputs)})
    finally:
        for hook in hooks:
            hook.remove()
    if outputs.ndim < 3 or not last:
        return 1
    wide = next((n for name in ("out_features", "out_channels", "nf") if (n := getattr(last[-1], name, None))), None)
    axes = (1, outputs.ndim - 1) if isinstance(last[-1], _ConvNd) else (outputs.ndim - 1, 1)
    # Outputs may have been turned around behind it.
    return axes[1] if outputs.shape[axes[0]] != wide and outputs.shape[axes[1]] == wide else axes[0]


def _macs(module: nn.Module, inputs: Inputs, call: Call) -> tuple[int, int] | None:
    """Multiply-accumulates of one sample as torch counts them where nothing is fused: with weights, and of activations
    with each other, which are products in batches; None where it cannot.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    counter, weights = FlopCounterMode(display=False), [p for p in module.parameters() if p.is_floating_point()]
    try:
        for weight in weights:  # with gradients, torch multiplies by them in one piece
            weight.requires_grad_(True)
        with warnings.catch_warnings(), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            warnings.simplefilter("ignore")  # of what other devices could do
            with torch.backends.mkldnn.flags(enabled=False), counter:
                call(module, inputs)
    except Exception:  # what the counter does not know
        return None
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        module.requires_grad_(False)
    flops = counter.get_flop_counts().get("Global", {})
    batched = sum(count for operation, count in flops.items() if operation in PRODUCTS)
    return (sum(flops.values()) - batched) // 2, batched // 2


def _reached(module: nn.Module, met: dict[str, int], batches: Iterable[Inputs], call: Call) -> dict[str, int]:
    """How often a sample meets each layer that batches reach, in order of execution; `met` where there are none.

    No more batches are run than it takes to reach all layers.
    """
    reached: dict[str, int] = {}
    for batch in batches:
        with _running(module, batch), torch.no_grad(), meetings(module, len(batch[0])) as found:
            call(module, _on_cpu(batch))
        reached |= {path: times for path, times in found.items() if path not in reached}
        if len(reached) == len(weighted(module)):
            break
    return reached or met


def _left_out(
    module: nn.Module, inputs: Inputs, call: Call, reached: Mapping[str, int], met: Mapping[str, int]
) -> tuple[list[str], list[str]]:
    """The layers that can be pruned, in order of execution, and what is to be said of the others."""
    odd = _odd(module, inputs, call)
    order = [path for path in reached if path not in odd]
    if not order:
        raise problem("SS210", f"{type(module).__name__} has no linear or convolution layer to prune.")
    modules = list(module.named_modules())
    told = {
        "have a weight that is no parameter of floats and stay as they are": [
            path for path, layer in modules if isinstance(layer, LAYERS) and not is_plain(layer)
        ],
        "do not run as layers on the calibration data and stay as they are": [
            path for path, _ in weighted(module) if path not in reached
        ],
        "do something else with their weight than multiply by it and stay as they are": sorted(odd),
        "run on some samples alone; what they cost is that of the first sample": [p for p in order if p not in met],
        "hold weights that nothing prunes": [
            f"{path} ({type(layer).__name__})".lstrip() for path, layer in modules if _holds_other_matrices(layer)
        ],
        "(Bilinear) are not counted among macs": [path for path, layer in modules if isinstance(layer, nn.Bilinear)],
    }
    return order, [f"{', '.join(names)} {reason}" for reason, names in told.items() if names]


def _holds_other_matrices(layer: nn.Module) -> bool:
    known = (*LAYERS, nn.Embedding, nn.EmbeddingBag)
    own = [parameter for parameter in layer._parameters.values() if parameter is not None]
    return not isinstance(layer, known) and any(parameter.ndim > 1 for parameter in own)


def _odd(module: nn.Module, inputs: Inputs, call: Call) -> set[str]:
    """Layers with a forward of their own whose outputs are not linear in their weight, such as standardised ones."""
    stock = {kind.forward for kind in LAYERS}
    own = [(path, layer) for path, layer in weighted(module) if type(layer).forward not in stock]
    found: set[str] = set()

    def hook(layer: Any, args: Any, path: str) -> None:
        if not _is_linear(layer, args):
            found.add(path)

    hooks = [
        layer.register_forward_pre_hook(lambda layer, args, path=path: hook(layer, args, path)) for path, layer in own
    ]
    try:
        if own:
            with torch.no_grad():
                call(module, inputs)
    finally:
        for handle in hooks:
            handle.remove()
    return found


def _is_linear(layer: Any, args: Any) -> bool:
    """Whether f(W) + f(0) = f(A) + f(W - A), where A is every other weight."""
    dense = layer.weight.data
    part = dense * (torch.arange(dense.numel()).view_as(dense) % 2)
    found = []
    try:
        for weight in (dense, torch.zeros_like(dense), part, dense - part):
            layer.weight.data = weight
            found.append(layer.forward(*args))
    finally:
        layer.weight.data = dense
    whole, none, half, other = found
    return bool(torch.allclose(whole + none, half + other, rtol=TOLERANCE, atol=TOLERANCE * float(whole.abs().max())))


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
    try:
        groups = _groups(module, inputs, call)
    except Exception as error:  # the tracer fails in many ways
        groups = []
        limits.append(f"channels cannot be cut: {type(module).__name__} cannot be traced ({first_line(error)})")
    for members in groups:
        cut = _cut(module, members, matrices, blocks)
        layers = sorted(
            {path for path, outward, _ in members if outward and path in blocks}, key=lambda path: blocks[path]
        )
        if not layers:  # said of by themselves
            continue
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
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        graph = tp.DependencyGraph().build_dependency(
            copied, example_inputs=tuple(inputs), forward_fn=call, verbose=False
        )
        found = list(graph.get_all_groups(root_module_types=[*CONVOLUTIONS, nn.Linear]))
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
        if isinstance(layer, (nn.Linear, *CONVOLUTIONS)) and not _is_depthwise(layer):
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
    plain = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    if not readers or not writers or not {slot.tensor for slot in writers} <= plain:
        return None
    if not {slot.tensor for slot in readers} <= {*matrices}:
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
    return layer.groups if isinstance(layer, CONVOLUTIONS) and not _is_depthwise(layer) else 1


def _is_depthwise(layer: Any) -> bool:
    if not isinstance(layer, CONVOLUTIONS) or layer.groups == 1:
        return False
    return layer.groups == layer.in_channels == layer.out_channels


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
    """Whether cutting elements equals ignoring them, whichever and however many stay."""
    first, *others = _kept_sets(cut.elements)
    try:
        return all(_agree(module, cut, first, sized, call) for sized in _sizes(inputs)) and all(
            _agree(module, cut, kept, _sizes(inputs)[0], call) for kept in others
        )
    except Exception:  # shapes that do not fit each other: the group is wrong
        return False


def _kept_sets(elements: int) -> list[torch.Tensor]:
    """Every other element, then one, about a third, and all but one, at irregular places; each (1, kept)."""
    generator = torch.Generator().manual_seed(elements)
    sizes = sorted({1, (elements // 3) | 1, elements - 1} - {elements})
    drawn = [torch.randperm(elements, generator=generator)[:size].sort().values for size in sizes]
    return [kept[None] for kept in (torch.arange(0, elements, 2), *drawn)]


def _agree(module: nn.Module, cut: Cut, kept: torch.Tensor, inputs: Inputs, call: Call) -> bool:
    """Whether the module without the other elements puts out what it does where nothing reads them."""
    smaller: dict[str, torch.Tensor] = {}
    ignoring: dict[str, torch.Tensor] = {}
    for slot in (*cut.writers, *cut.readers):
        value = _now(slot.tensor, module, smaller)
        positions = slot.staying(kept, value.shape[slot.axis]).nonzero().flatten()
        smaller[slot.tensor] = value.index_select(slot.axis, positions)
        if slot in cut.readers:
            value = _now(slot.tensor, module, ignoring)
            ignoring[slot.tensor] = torch.zeros_like(value).index_copy_(
                slot.axis, positions, value.index_select(slot.axis, positions)
            )
    with torch.no_grad():
        with _with(module, ignoring):
            expected = call(module, inputs)
        with _with(module, smaller, cut, kept.shape[1]):
            found = call(module, inputs)
    scale = float(expected.abs().max()) + 1e-6
    return found.shape == expected.shape and float((found - expected).abs().max()) <= TOLERANCE * scale


def _now(name: str, module: nn.Module, changed: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return changed[name] if name in changed else _tensor(module, name)


@contextmanager
def _with(
    module: nn.Module, tensors: Mapping[str, torch.Tensor], cut: Cut | None = None, kept: int = 0
) -> Iterator[None]:
    """The module with other tensors, and with the sizes it keeps where `kept` elements of a cut stay."""
    own = {name: _tensor(module, name) for name in tensors}
    _put(module, tensors, cut, kept)
    try:
        yield
    finally:
        _put(module, own, cut, cut.elements if cut else 0)


def _put(module: nn.Module, tensors: Mapping[str, torch.Tensor], cut: Cut | None, kept: int) -> None:
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        set_tensor(module.get_submodule(path), leaf, tensor)
    for attribute in cut.attributes if cut else ():
        set_attribute(module.get_submodule(attribute.module), attribute.name, attribute.per_element * kept)


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
