"""Copies of a module of the user's own, which stays as it was given."""

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


def own_copy(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode, without gradients, without what `torch.compile` puts around modules, and with weights
    of its own where they were computed (weight and spectral norm, other parametrisations, masks of torch's pruning).

    Raises InputError SS231 where a module cannot be copied.
    """
    # What hooks computed for the last pass has gradients, which deepcopy refuses.
    held = [value for part in module.modules() for value in vars(part).values() if isinstance(value, torch.Tensor)]
    computed = {id(tensor): tensor.detach().clone() for tensor in held if not tensor.is_leaf}
    try:
        copied = copy.deepcopy(module, dict(computed))
    except Exception as error:  # whatever a module holds
        raise problem(
            "SS231",
            f"{type(module).__name__} cannot be copied: {first_line(error)}.",
            fix="Leave out of its attributes what cannot be copied, such as locks and open files.",
        ) from None
    return _plain(uncompiled(copied).eval()).requires_grad_(False)


def _plain(module: nn.Module) -> nn.Module:
    """The module with parameters in place of what is computed from others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is deprecated
        for part in list(module.modules()):
            if parametrize.is_parametrized(part):
                _settle(part)
            for hook in list(part._forward_pre_hooks.values()):
                if isinstance(hook, WeightNorm):
                    nn.utils.remove_weight_norm(part, hook.name)
                elif isinstance(hook, SpectralNorm):
                    nn.utils.remove_spectral_norm(part, hook.name)
                    # It leaves behind what asks states for the old names.
                    part._load_state_dict_pre_hooks.clear()
                elif isinstance(hook, prune.BasePruningMethod):
                    prune.remove(part, hook._tensor_name)  # type: ignore[no-untyped-call]
    return module


def _settle(part: Any) -> None:
    """Parameters in place of a part's parametrisations.

    Torch's own `remove_parametrizations` takes properties from the part's class, which it shares with what was copied.
    """
    now = {name: getattr(part, name).detach().clone() for name in part.parametrizations}
    del part.parametrizations
    part.__class__ = type(part).__bases__[0]
    for name, tensor in now.items():
        part.register_parameter(name, nn.Parameter(tensor))


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
    module._apply(  # type: ignore[no-untyped-call]
        lambda tensor: tensor.to(device, dtype if tensor.is_floating_point() else None)
    )
    return module


def check_plain(module: nn.Module) -> None:
    """Raise InputError SS232 for parameters that can be neither pruned nor counted, and for layers whose outputs for a
    sample depend on the other samples of its batch.
    """
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise problem(
                "SS232",
                f"layer {name} normalises by the batch that a sample is in (track_running_stats=False).",
                fix="Let it track running statistics, or use a norm over each sample.",
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
                "exports know real numbers alone.",
                fix="Keep real and imaginary parts along an axis of their own "
                "(torch.view_as_real), and make complex numbers of them in forward.",
            )
