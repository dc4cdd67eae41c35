"""Describes any module by running it: its layers, and its channel groups as cuts that are proved by execution."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from sparsesearch.errors import problem
from sparsesearch.models.copying import move_module, plain_copy
from sparsesearch.models.network import Network
from sparsesearch.models.task import TASKS, Task
from sparsesearch.models.tracing.channel_groups import channel_cuts
from sparsesearch.models.tracing.forward_pass import (
    Call,
    Inputs,
    call_of,
    count_over_batches,
    nonlinear_layers,
    on_cpu,
    run_once,
)
from sparsesearch.models.tracing.layers import LAYERS, has_float_weight, matrix_of, weighted_layers


def describe_module(
    module: nn.Module, inputs: Inputs, task: Task = TASKS["module"], batches: Iterable[Inputs] = ()
) -> Network:
    """Describe a module.

    Args:
        module: has real weights; it is not changed.
        inputs: arguments of `forward`, (samples, ...) each.
        task: decides how the module is called if it is a model of transformers.
        batches: arguments of `forward` from the data that it will run on; layers that none of them runs are left out.

    Raises InputError SS210 if the module does not run, SS211 if it returns no tensor of logits.
    """
    module = move_module(plain_copy(module), "cpu", torch.float32)
    inputs = on_cpu(inputs)
    record = run_once(module, inputs, task)
    call = call_of(record.task, len(inputs))
    counts = count_over_batches(module, record.counts, batches, call)
    order, reasons = _prunable_layers(module, inputs, call, counts, record.counts)
    tied = tied_parameters(module)
    tied_layers = {name.rpartition(".")[0] for name in tied}
    positions = {path: record.counts.get(path, counts[path]) for path in order}
    blocks = {path: i for i, path in enumerate(order)}
    untied = [path for path in order if path not in tied_layers]
    described = [matrix_of(module.get_submodule(path), path, blocks[path], path, positions[path]) for path in untied]
    matrices = {matrix.name: matrix for matrix in described}
    cuts, uncuttable = channel_cuts(module, inputs, call, matrices, blocks, tied_layers)
    applied: dict[str, int] = defaultdict(int)
    if shared := sorted({*order} - {*untied}):
        reasons.append(f"{', '.join(shared)} share weights with each other and stay as they are")
    for path in shared:
        applied[tied.get(f"{path}.weight", f"{path}.weight")] += positions[path]
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    counted = sum(m.positions * m.size for m in described) + sum(
        n * math.prod(shapes[name]) for name, n in applied.items()
    )
    rest, uncounted = _rest_macs(record.macs, counted)
    return Network(
        model_type=type(module).__name__,
        task=record.task,
        hidden=0,
        values=record.outputs.shape[2],
        positions=record.outputs.shape[1],
        max_length=1,
        blocks=tuple(order),
        blockwise=False,
        matrices=matrices,
        cuts={cut.name: cut for cut in cuts},
        drops={},
        attentions=(),
        shapes=shapes,
        applied=dict(applied),
        unsearchable=tuple(uncuttable + reasons + uncounted),
        axis=record.axis,
        distribution=record.outputs.shape[2] > 1 and not task.embeds,
        rest_macs=rest,
    )


def tied_parameters(module: nn.Module) -> dict[str, str]:
    """Return, for every name of a parameter that has several names, the one that `named_parameters` gives it."""
    first: dict[int, str] = {}
    names = [(name, first.setdefault(id(p), name)) for name, p in module.named_parameters(remove_duplicate=False)]
    repeated = {listed for name, listed in names if name != listed}
    return {name: listed for name, listed in names if listed in repeated}


def _rest_macs(macs: tuple[int, int] | None, counted: int) -> tuple[int, list[str]]:
    """Return the multiply-accumulates with weights that no unit touches, and notes on what macs leave out.

    Args:
        macs: multiply-accumulates with weights, and of activations; None if they could not be counted.
        counted: multiply-accumulates of layers that units can touch.
    """
    if macs is None:
        return 0, ["multiply-accumulates beside those of these layers are not counted among macs"]
    weights, products = macs
    rest, notes = max(weights - counted, 0), []
    if rest:
        notes.append(f"{rest:,} of {weights:,} macs are of weights that no unit touches: they count as they are")
    if products:
        notes.append(f"products of activations (attention), {products:,} multiply-accumulates, are not among macs")
    return rest, notes


def _prunable_layers(
    module: nn.Module, inputs: Inputs, call: Call, counts: Mapping[str, int], example_counts: Mapping[str, int]
) -> tuple[list[str], list[str]]:
    """Return paths of the layers that can be pruned, in order of execution, and notes on all other layers.

    Args:
        counts: times that each layer is applied to a sample of the data.
        example_counts: the same for the example inputs.
    """
    nonlinear = nonlinear_layers(module, inputs, call)
    order = [path for path in counts if path not in nonlinear]
    if not order:
        raise problem("SS210", f"{type(module).__name__} has no linear or convolution layer to prune.")
    modules = list(module.named_modules())
    layers_by_note = {
        "have a weight that is no parameter of floats and stay as they are": [
            path for path, layer in modules if isinstance(layer, LAYERS) and not has_float_weight(layer)
        ],
        "do not run as layers on the calibration data and stay as they are": [
            path for path, _ in weighted_layers(module) if path not in counts
        ],
        "do something else with their weight than multiply by it and stay as they are": sorted(nonlinear),
        "run on some samples alone; what they cost is that of the first sample": [
            path for path in order if path not in example_counts
        ],
        "hold weights that nothing prunes": [
            f"{path} ({type(layer).__name__})".lstrip() for path, layer in modules if _holds_other_matrices(layer)
        ],
        "(Bilinear) are not counted among macs": [path for path, layer in modules if isinstance(layer, nn.Bilinear)],
    }
    return order, [f"{', '.join(names)} {note}" for note, names in layers_by_note.items() if names]


def _holds_other_matrices(layer: Any) -> bool:
    prunable_or_embedding = (*LAYERS, nn.Embedding, nn.EmbeddingBag)
    parameters = [parameter for parameter in layer._parameters.values() if parameter is not None]
    return not isinstance(layer, prunable_or_embedding) and any(parameter.ndim > 1 for parameter in parameters)
