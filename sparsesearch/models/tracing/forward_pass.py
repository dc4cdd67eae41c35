"""Runs a module on example inputs and records the facts that a description of it needs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from sparsesearch.errors import InputError, first_line, problem
from sparsesearch.models.task import Task, module_outputs, with_value_axis
from sparsesearch.models.tracing.layers import LAYERS, count_positions, weighted_layers

# Difference of outputs, relative to the largest one, that counts as rounding.
TOLERANCE = 1e-3
# Operations by which torch multiplies activations with activations.
_ACTIVATION_PRODUCTS = (torch.ops.aten.bmm, torch.ops.aten.baddbmm)
# Arguments of `forward`, (samples, ...) each.
Inputs = Sequence[torch.Tensor]
Call = Callable[[nn.Module, Inputs], torch.Tensor]


@dataclass(frozen=True)
class ForwardPass:
    """The record of one pass through a module.

    Attributes:
        counts: times that each layer is applied to a sample, by path, in order of execution.
        axis: axis of the module's outputs along which the values lie.
        outputs: outputs as the task gives them, (samples, positions, values).
        macs: multiply-accumulates per sample with weights, and of activations with activations; None if torch cannot
            count them.
    """

    counts: dict[str, int]
    task: Task
    axis: int
    outputs: torch.Tensor
    macs: tuple[int, int] | None


def run_once(module: nn.Module, inputs: Inputs, task: Task) -> ForwardPass:
    """Run a module on inputs, (samples, ...) each, and record the pass.

    Raises InputError SS210 if the module does not run, SS211 if it returns no tensor of logits.
    """
    with input_errors(module, inputs):
        axis = -1 if task.auto_class else _value_axis(module, inputs)
        task = task if task.auto_class else with_value_axis(task, axis)
        call = call_of(task, len(inputs))
        with torch.no_grad(), count_positions(module, len(inputs[0])) as counts:
            outputs = call(module, inputs)
    return ForwardPass(dict(counts), task, axis, outputs, _count_macs(module, [tensor[:1] for tensor in inputs], call))


def on_cpu(inputs: Inputs) -> list[torch.Tensor]:
    """Return inputs on the CPU, floating-point ones in float32."""
    return [t.cpu().float() if t.is_floating_point() else t.cpu() for t in inputs]


def call_of(task: Task, count: int) -> Call:
    """Return the function that runs a module of a task on `count` inputs, giving (samples, positions, values)."""
    names = ["pixel_values"] if task.auto_class else [str(i) for i in range(count)]
    return lambda module, tensors: task.call(module, dict(zip(names, tensors, strict=True)))


@contextmanager
def input_errors(module: nn.Module, inputs: Inputs) -> Iterator[None]:
    """Turn any error of a user's module into InputError SS210."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise problem(
            "SS210",
            f"{type(module).__name__} does not run on inputs of shape {shapes}: {first_line(error)}.",
            fix="Give example inputs of the shapes that its forward takes.",
        ) from None


def _value_axis(module: nn.Module, inputs: Inputs) -> int:
    """Return the axis of the outputs that the last layer writes to: 1 for a convolution, the last one for others."""
    executed: list[Any] = []
    kinds = (*LAYERS, _ConvNd, nn.RNNBase, nn.LayerNorm, nn.MultiheadAttention)
    hooks = [
        layer.register_forward_hook(lambda layer, *_: executed.append(layer))
        for layer in module.modules()
        if isinstance(layer, kinds)
    ]
    try:
        with torch.no_grad():
            outputs = module_outputs(module, {str(i): tensor for i, tensor in enumerate(inputs)})
    finally:
        for hook in hooks:
            hook.remove()
    if outputs.ndim < 3 or not executed:
        return 1
    last = executed[-1]
    width = next((n for name in ("out_features", "out_channels", "nf") if (n := getattr(last, name, None))), None)
    likely, other = (1, outputs.ndim - 1) if isinstance(last, _ConvNd) else (outputs.ndim - 1, 1)
    # The module may transpose the outputs of its last layer.
    return other if outputs.shape[likely] != width and outputs.shape[other] == width else likely


def _count_macs(module: nn.Module, inputs: Inputs, call: Call) -> tuple[int, int] | None:
    """Count the multiply-accumulates of one sample: with weights, and of activations with activations.

    Activations are multiplied by batched products. None if torch cannot count.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    counter, weights = FlopCounterMode(display=False), [p for p in module.parameters() if p.is_floating_point()]
    try:
        for weight in weights:  # with gradients, torch does not split products with weights into batches
            weight.requires_grad_(True)
        with warnings.catch_warnings(), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            warnings.simplefilter("ignore")  # about other devices
            with torch.backends.mkldnn.flags(enabled=False), counter:
                call(module, inputs)
    except Exception:  # the counter does not support every operation
        return None
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        module.requires_grad_(False)
    flops = counter.get_flop_counts().get("Global", {})
    batched = sum(count for operation, count in flops.items() if operation in _ACTIVATION_PRODUCTS)
    return (sum(flops.values()) - batched) // 2, batched // 2


def count_over_batches(
    module: nn.Module, counts: dict[str, int], batches: Iterable[Inputs], call: Call
) -> dict[str, int]:
    """Return how often each layer that batches run is applied to a sample, in order of execution.

    Stops at the first batch by which all layers have run.

    Args:
        counts: returned if there are no batches.
    """
    reached: dict[str, int] = {}
    for batch in batches:
        with input_errors(module, batch), torch.no_grad(), count_positions(module, len(batch[0])) as batch_counts:
            call(module, on_cpu(batch))
        reached |= {path: count for path, count in batch_counts.items() if path not in reached}
        if len(reached) == len(weighted_layers(module)):
            break
    return reached or counts


def nonlinear_layers(module: nn.Module, inputs: Inputs, call: Call) -> set[str]:
    """Return paths of layers whose own forward is not linear in the weight, such as one that standardises it."""
    stock = {kind.forward for kind in LAYERS}
    custom = [(path, layer) for path, layer in weighted_layers(module) if type(layer).forward not in stock]
    nonlinear: set[str] = set()

    def hook(layer: Any, args: Any, path: str) -> None:
        if not _is_linear(layer, args):
            nonlinear.add(path)

    hooks = [
        layer.register_forward_pre_hook(lambda layer, args, path=path: hook(layer, args, path))
        for path, layer in custom
    ]
    try:
        if custom:
            with torch.no_grad():
                call(module, inputs)
    finally:
        for handle in hooks:
            handle.remove()
    return nonlinear


def _is_linear(layer: Any, args: Any) -> bool:
    """Return whether f(W) + f(0) = f(A) + f(W - A), where A is every other weight of W and f the layer's forward."""
    dense = layer.weight.data
    half = dense * (torch.arange(dense.numel()).view_as(dense) % 2)
    outputs = []
    try:
        for weight in (dense, torch.zeros_like(dense), half, dense - half):
            layer.weight.data = weight
            outputs.append(layer.forward(*args))
    finally:
        layer.weight.data = dense
    of_dense, of_zero, of_half, of_other_half = outputs
    tolerance = TOLERANCE * float(of_dense.abs().max())
    return bool(torch.allclose(of_dense + of_zero, of_half + of_other_half, rtol=TOLERANCE, atol=tolerance))
