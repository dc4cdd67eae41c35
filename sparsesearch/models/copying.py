"""Copies of a user's module; the module itself is not changed."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from sparsesearch.errors import first_line, problem


def plain_copy(module: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode, without gradients and without the wrappers of `torch.compile`.

    Weights that were computed (weight and spectral norm, other parametrisations, masks of torch's pruning) become
    parameters of the copy.

    Raises InputError SS231 if a module cannot be copied.
    """
    # deepcopy refuses tensors with gradients, such as those that hooks computed for the last pass.
    attributes = [value for part in module.modules() for value in vars(part).values()]
    computed = {id(t): t.detach().clone() for t in attributes if isinstance(t, torch.Tensor) and not t.is_leaf}
    try:
        copied = copy.deepcopy(module, dict(computed))
    except Exception as error:  # a module may hold any object
        raise problem(
            "SS231",
            f"{type(module).__name__} cannot be copied: {first_line(error)}.",
            fix="Remove attributes that cannot be copied, such as locks and open files.",
        ) from None
    return _with_parameters(unwrap_compiled(copied).eval()).requires_grad_(False)


def _with_parameters(module: nn.Module) -> nn.Module:
    """Return the module, changed in place, with a parameter for every weight that was computed from others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated functions of torch
        for part in list(module.modules()):
            if parametrize.is_parametrized(part):
                _remove_parametrizations(part)
            for hook in list(part._forward_pre_hooks.values()):
                if isinstance(hook, WeightNorm):
                    nn.utils.remove_weight_norm(part, hook.name)
                elif isinstance(hook, SpectralNorm):
                    nn.utils.remove_spectral_norm(part, hook.name)
                    # torch leaves hooks behind that ask states for the old names.
                    part._load_state_dict_pre_hooks.clear()
                elif isinstance(hook, prune.BasePruningMethod):
                    prune.remove(part, hook._tensor_name)  # type: ignore[no-untyped-call]
    return module


def _remove_parametrizations(part: Any) -> None:
    """Replace a module's parametrisations by parameters.

    Torch's own `remove_parametrizations` removes properties from the module's class, which the copied module shares.
    """
    values = {name: getattr(part, name).detach().clone() for name in part.parametrizations}
    del part.parametrizations
    part.__class__ = type(part).__bases__[0]
    for name, tensor in values.items():
        part.register_parameter(name, nn.Parameter(tensor))


def unwrap_compiled(module: Any) -> Any:
    """Return the module without wrappers of `torch.compile`, on it or inside: hooks do not reach compiled modules."""
    while isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
        module = inner
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = unwrap_compiled(child)
    return module


def move_module(module: nn.Module, device: torch.device | str, dtype: torch.dtype | None = None) -> nn.Module:
    """Move a module in place and return it; only floats change type (`Module.to` drops imaginary parts)."""
    module._apply(  # type: ignore[no-untyped-call]
        lambda tensor: tensor.to(device, dtype if tensor.is_floating_point() else None)
    )
    return module


def check_module(module: nn.Module) -> None:
    """Raise InputError SS232 for parameters that can be neither pruned nor counted, and for layers whose outputs for a
    sample depend on the other samples of its batch.
    """
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise problem(
                "SS232",
                f"layer {name} normalises by batch statistics (track_running_stats=False).",
                fix="Use track_running_stats=True, or a norm over each sample.",
            )
    for name, parameter in module.named_parameters():
        if nn.parameter.is_lazy(parameter) or parameter.is_meta:
            raise problem(
                "SS232",
                f"parameter {name} has no values yet.",
                fix="Run the module once on a sample, or load its weights.",
            )
        if parameter.is_complex():
            raise problem(
                "SS232",
                f"parameter {name} is complex ({str(parameter.dtype).removeprefix('torch.')}); costs and "
                "exports support real numbers only.",
                fix="Store real and imaginary parts along an extra axis "
                "(torch.view_as_real), and build complex numbers in forward.",
            )
