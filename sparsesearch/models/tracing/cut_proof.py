"""Proves a cut by execution: without its elements a module must compute the same as if nothing read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from sparsesearch.models.network import Cut
from sparsesearch.models.surgery import set_attribute, set_tensor
from sparsesearch.models.tracing.forward_pass import TOLERANCE, Call, Inputs


def is_equivalent(module: nn.Module, cut: Cut, inputs: Inputs, call: Call) -> bool:
    """Return whether cutting elements equals ignoring them, whichever and however many stay.

    Args:
        inputs: arguments of `forward`, (samples, ...) each; random ones of the same shapes are used.
    """
    first, *others = _kept_sets(cut.elements)
    try:
        return all(_agrees(module, cut, first, sized, call) for sized in _random_inputs(inputs)) and all(
            _agrees(module, cut, kept, _random_inputs(inputs)[0], call) for kept in others
        )
    except Exception:  # shapes that do not fit each other: the group is wrong
        return False


def tensor_of(module: nn.Module, name: str) -> torch.Tensor:
    """Return a parameter or buffer of a module by its dotted path."""
    path, _, leaf = name.rpartition(".")
    tensor: torch.Tensor = getattr(module.get_submodule(path), leaf)
    return tensor.data


def _kept_sets(elements: int) -> list[torch.Tensor]:
    """Return sets of kept elements, (1, kept) each: every other one; at random 1, about a third, all but one."""
    generator = torch.Generator().manual_seed(elements)
    sizes = sorted({1, (elements // 3) | 1, elements - 1} - {elements})
    drawn = [torch.randperm(elements, generator=generator)[:size].sort().values for size in sizes]
    return [kept[None] for kept in (torch.arange(0, elements, 2), *drawn)]


def _agrees(module: nn.Module, cut: Cut, kept: torch.Tensor, inputs: Inputs, call: Call) -> bool:
    """Return whether the module with only the elements `kept` (1, kept) equals the one that ignores the others."""
    smaller: dict[str, torch.Tensor] = {}
    ignoring: dict[str, torch.Tensor] = {}
    for slot in (*cut.writers, *cut.readers):
        value = _current(slot.tensor, module, smaller)
        positions = slot.mask_of(kept, value.shape[slot.axis]).nonzero().flatten()
        smaller[slot.tensor] = value.index_select(slot.axis, positions)
        if slot in cut.readers:
            value = _current(slot.tensor, module, ignoring)
            ignoring[slot.tensor] = torch.zeros_like(value).index_copy_(
                slot.axis, positions, value.index_select(slot.axis, positions)
            )
    with torch.no_grad():
        with _replace_within(module, ignoring):
            expected = call(module, inputs)
        with _replace_within(module, smaller, cut, kept.shape[1]):
            outputs = call(module, inputs)
    scale = float(expected.abs().max()) + 1e-6
    return outputs.shape == expected.shape and float((outputs - expected).abs().max()) <= TOLERANCE * scale


def _current(name: str, module: nn.Module, changed: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return changed[name] if name in changed else tensor_of(module, name)


@contextmanager
def _replace_within(
    module: nn.Module, tensors: Mapping[str, torch.Tensor], cut: Cut | None = None, kept: int = 0
) -> Iterator[None]:
    """Give a module other tensors, and the sizes that it has if `kept` elements of a cut stay; undo it at the end."""
    dense = {name: tensor_of(module, name) for name in tensors}
    _replace(module, tensors, cut, kept)
    try:
        yield
    finally:
        _replace(module, dense, cut, cut.elements if cut else 0)


def _replace(module: nn.Module, tensors: Mapping[str, torch.Tensor], cut: Cut | None, kept: int) -> None:
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        set_tensor(module.get_submodule(path), leaf, tensor)
    for attribute in cut.attributes if cut else ():
        set_attribute(module.get_submodule(attribute.module), attribute.name, attribute.per_element * kept)


def _random_inputs(inputs: Inputs) -> list[list[torch.Tensor]]:
    """Return random inputs of the given shapes, and of twice as many samples."""
    generator = torch.Generator().manual_seed(0)

    def like(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        if not dtype.is_floating_point:
            return torch.zeros(shape, dtype=dtype)
        return torch.randn(shape, generator=generator, dtype=dtype)

    plain = [like(tensor.shape, tensor.dtype) for tensor in inputs]
    doubled = [like((2 * len(tensor), *tensor.shape[1:]), tensor.dtype) for tensor in inputs]
    return [plain, doubled]
