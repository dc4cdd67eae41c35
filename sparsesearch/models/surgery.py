"""Give a stock transformers model uneven sizes and dropped sublayers.

Self-contained on purpose (torch and transformers only): an export with `trust_remote_code` ships this file as its
`modeling_sparsesearch.py`, so what users load elsewhere is the code that was searched and tested here.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from torch import nn

# The `sparsesearch` entry of a configuration. All names are dotted paths:
#   shapes      {tensor: shape} of parameters and buffers whose shapes differ from the stock model's
#   attributes  [[module, name, value], ...] sizes that modules keep; `config.NAME` gives a module its own configuration
#   stand_ins   [[module, name of its replacement in `stand_in`], ...] modules that were dropped
Surgery = dict[str, Any]


class NoAttention(nn.Module):
    """Replaces a dropped attention sublayer; adds exactly zero to the residual stream.

    transformers reads the length of the KV cache from the first layer of each kind, so a dropped layer still writes
    keys and values of one number per token to its cache slot: transformers counts empty ones as no tokens.
    """

    def __init__(self, layer_idx: int | None) -> None:
        super().__init__()
        self.layer_idx = layer_idx

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, None]:
        # Named `cache`, `past_key_values` or `layer_past`, depending on the version of transformers.
        cache = next((a for a in (*args, *kwargs.values()) if hasattr(a, "get_seq_length")), None)
        if cache is not None:
            zeros = hidden_states.new_zeros((hidden_states.shape[0], 1, hidden_states.shape[1], 1))
            cache.update(zeros, zeros, self.layer_idx)
        return torch.zeros_like(hidden_states), None


class NoFFN(nn.Module):
    """Replaces a dropped feed-forward sublayer, or its last linear; adds exactly zero."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return torch.zeros_like(hidden_states)


class NoBiasedAttention(nn.Module):
    """Replaces a dropped T5 attention; adds exactly zero and passes its position biases on."""

    def __init__(self, layer_idx: int | None) -> None:
        super().__init__()
        self.layer_idx = layer_idx

    def forward(
        self, hidden_states: torch.Tensor, *_: Any, position_bias: Any = None, past_key_values: Any = None, **__: Any
    ) -> tuple[torch.Tensor, Any, None]:
        return torch.zeros_like(hidden_states), position_bias, None


def stand_in(name: str, stock: nn.Module) -> nn.Module:
    """Return the replacement of a dropped module: `attention`, `biased_attention`, `ffn` or `identity`."""
    if name in ("attention", "biased_attention"):
        attention = NoAttention if name == "attention" else NoBiasedAttention
        return attention(getattr(stock, "layer_idx", None))
    return {"ffn": NoFFN, "identity": nn.Identity}[name]()


def set_tensor(module: nn.Module, leaf: str, tensor: torch.Tensor | None) -> None:
    """Replace a parameter or buffer by a tensor, which may have another shape, and update the sizes of stock layers."""
    if leaf in module._parameters:
        module._parameters[leaf] = None if tensor is None else nn.Parameter(tensor, requires_grad=False)
    else:
        module._buffers[leaf] = tensor
    if leaf == "weight":
        update_sizes(module)


def update_sizes(module: Any) -> None:
    """Set the size attributes of a stock layer from the shape of its weight."""
    shape = module.weight.shape
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = shape
    elif isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        module.out_channels, module.in_channels = shape[0], shape[1] * module.groups
        module.kernel_size = tuple(shape[2:])
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        module.num_features = shape[0]
    elif hasattr(module, "nf"):  # transformers' Conv1D
        module.nf, module.nx = shape[1], shape[0]


def set_attribute(module: Any, name: str, value: Any) -> None:
    """Set a size that a module keeps; `config.NAME` is set on the module's own copy of the configuration.

    Raises ValueError if the name or the value is not a size: the surgery may come from an untrusted file.
    """
    owner, _, leaf = name.rpartition(".")
    current = getattr(module.config if owner == "config" else module, leaf, None)
    sizes = current if isinstance(current, tuple) else (current,)
    if owner not in ("", "config") or any(type(size) is not int for size in (*sizes, value)):
        raise ValueError(f"surgery sets {name!r:.80} to {value!r:.80}, which is not a size")
    if owner == "config":
        if not getattr(module, "_own_config", False):
            module.config, module._own_config = copy.copy(module.config), True
        module = module.config
    # A tuple, such as padding, is the same along all axes.
    setattr(module, leaf, (value,) * len(current) if isinstance(current, tuple) else value)


def apply_surgery(model: nn.Module, surgery: Surgery) -> None:
    """Change a stock model in place; tensors whose shape changes are left uninitialised."""
    for path, name in surgery["stand_ins"]:
        model.set_submodule(path, stand_in(name, model.get_submodule(path)))
    for name, shape in surgery["shapes"].items():
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        stock = getattr(module, leaf)
        if stock is None:  # a bias that only the changed model has
            stock = module.weight
        set_tensor(module, leaf, torch.empty(shape, dtype=stock.dtype, device=stock.device))
    for path, name, value in surgery["attributes"]:
        set_attribute(model.get_submodule(path), name, value)


def define(config_name: str, model_name: str, module: str = __name__) -> tuple[type[Any], type[Any]]:
    """Return configuration and model classes for uneven models of a stock class, given by their names in transformers.

    The configuration has its own `model_type`: stock code refuses the checkpoint instead of loading it wrongly.
    """
    base_config, base_model = getattr(transformers, config_name), getattr(transformers, model_name)

    def __init__(self: Any, config: Any) -> None:
        base_model.__init__(self, config)
        apply_surgery(self, config.sparsesearch)
        self.post_init()

    model_type = {"model_type": f"sparsesearch_{base_config.model_type}", "__module__": module}
    config = type(f"SparseSearch{config_name}", (base_config,), model_type)
    members = {"config_class": config, "__init__": __init__, "__module__": module}
    return config, type(f"SparseSearch{model_name}", (base_model,), members)
