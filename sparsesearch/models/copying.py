"""Copies of a module of the user's own, which stays as it was given."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from sparsesearch.errors import InputError, first_line


def own_copy(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode, without gradients and without what `torch.compile` puts around modules.

    Raises InputError SS231 where a module cannot be copied.
    """
    try:
        copied = copy.deepcopy(module)
    except Exception as error:  # whatever a module holds
        raise InputError(
            "SS231", f"{type(module).__name__} cannot be copied: {first_line(error)}.",
            "Make its weights plain before the search (remove_weight_norm, prune.remove), and its attributes copyable.",
        ) from None  # fmt: skip
    return uncompiled(copied).eval().requires_grad_(False)


def uncompiled(module: Any) -> Any:
    """The module itself where `torch.compile` wraps it, and so inside it: hooks do not reach what is compiled."""
    while isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
        module = inner
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = uncompiled(child)
    return module


def placed(module: nn.Module, device: torch.device | str, dtype: torch.dtype | None = None) -> nn.Module:
    """The module, moved; only floating-point tensors change their type (`Module.to` would drop imaginary parts)."""
    return module._apply(lambda tensor: tensor.to(device, dtype if tensor.is_floating_point() else None))


def check_plain(module: nn.Module) -> None:
    """Raise InputError SS232 for parameters that can be neither pruned nor counted."""
    for name, parameter in module.named_parameters():
        if nn.parameter.is_lazy(parameter) or parameter.is_meta:
            raise InputError(
                "SS232", f"parameter {name} has no values yet.", "Run the module once on a sample, or load its weights."
            )
        if parameter.is_complex():
            raise InputError(
                "SS232", f"parameter {name} is complex ({str(parameter.dtype).removeprefix('torch.')}); costs and "
                "exports know real numbers alone.", "Keep real and imaginary parts along an axis of their own "
                "(torch.view_as_real), and make complex numbers of them in forward.",
            )  # fmt: skip
