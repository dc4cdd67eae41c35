"""Give a stock decoder of the Llama family uneven widths and dropped sublayers.

Self-contained on purpose (torch and transformers only): an export with `trust_remote_code` ships this file as its
`modeling_sparsesearch.py`, so what users load elsewhere is the code that was searched and tested here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

# One block's shape: KV groups and FFN neurons kept; 0 drops the sublayer.
Shape = dict[str, int]


class NoAttention(nn.Module):
    """Stands where an attention sublayer was dropped and adds exactly nothing to the residual stream.

    transformers reads the length of the KV cache from the first layer of each kind, so a dropped layer still tells its
    cache slot how many tokens passed, with keys and values of head size 0: no memory, right positions.
    """

    def __init__(self, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx

    def forward(self, hidden_states: torch.Tensor, past_key_values: Any = None, **_: Any) -> tuple[torch.Tensor, None]:
        if past_key_values is not None:
            nothing = hidden_states.new_zeros((hidden_states.shape[0], 1, hidden_states.shape[1], 0))
            past_key_values.update(nothing, nothing, self.layer_idx)
        return torch.zeros_like(hidden_states), None


class NoFFN(nn.Module):
    """Stands where a feed-forward sublayer was dropped and adds exactly nothing to the residual stream."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(hidden_states)


def _resized(linear: nn.Linear, rows: int, columns: int) -> nn.Linear:
    weight = linear.weight
    return nn.Linear(columns, rows, bias=linear.bias is not None, device=weight.device, dtype=weight.dtype)


def apply_shapes(model: Any, shapes: list[Shape]) -> None:
    """Replace linears and sublayers in place; weights of resized linears are left uninitialised.

    Args:
        model: a causal language model of the Llama family, as transformers builds it.
        shapes: for each block `{"kv_groups": groups kept, "ffn_width": neurons kept}`; a missing key changes nothing.
    """
    for index, (layer, shape) in enumerate(zip(model.model.layers, shapes, strict=True)):
        _shape_attention(layer, index, shape)
        _shape_ffn(layer, shape)


def _shape_attention(layer: Any, index: int, shape: Shape) -> None:
    groups = shape.get("kv_groups")
    if groups == 0:
        layer.self_attn, layer.input_layernorm = NoAttention(index), nn.Identity()
    elif groups is not None:
        attention = layer.self_attn
        keys, hidden = groups * attention.head_dim, attention.q_proj.in_features
        queries = keys * attention.num_key_value_groups
        attention.q_proj = _resized(attention.q_proj, queries, hidden)
        attention.k_proj = _resized(attention.k_proj, keys, hidden)
        attention.v_proj = _resized(attention.v_proj, keys, hidden)
        attention.o_proj = _resized(attention.o_proj, attention.o_proj.out_features, queries)


def _shape_ffn(layer: Any, shape: Shape) -> None:
    width = shape.get("ffn_width")
    if width == 0:
        layer.mlp, layer.post_attention_layernorm = NoFFN(), nn.Identity()
    elif width is not None:
        mlp = layer.mlp
        mlp.gate_proj = _resized(mlp.gate_proj, width, mlp.gate_proj.in_features)
        mlp.up_proj = _resized(mlp.up_proj, width, mlp.up_proj.in_features)
        mlp.down_proj = _resized(mlp.down_proj, mlp.down_proj.out_features, width)


def _uneven_config(base: type[Any]) -> type[Any]:
    # A model_type of its own: stock code refuses the checkpoint instead of loading it wrongly in silence.
    name = f"SparseSearch{base.__name__}"
    return type(name, (base,), {"model_type": f"sparsesearch_{base.model_type}", "__module__": __name__})


def _uneven_model(base: type[Any], config: type[Any]) -> type[Any]:
    def __init__(self: Any, config: Any) -> None:
        base.__init__(self, config)
        apply_shapes(self, config.sparsesearch_shapes)
        self.post_init()

    name = f"SparseSearch{base.__name__}"
    return type(name, (base,), {"config_class": config, "__init__": __init__, "__module__": __name__})


SparseSearchLlamaConfig = _uneven_config(LlamaConfig)
SparseSearchMistralConfig = _uneven_config(MistralConfig)
SparseSearchQwen2Config = _uneven_config(Qwen2Config)
SparseSearchQwen3Config = _uneven_config(Qwen3Config)
SparseSearchLlamaForCausalLM = _uneven_model(LlamaForCausalLM, SparseSearchLlamaConfig)
SparseSearchMistralForCausalLM = _uneven_model(MistralForCausalLM, SparseSearchMistralConfig)
SparseSearchQwen2ForCausalLM = _uneven_model(Qwen2ForCausalLM, SparseSearchQwen2Config)
SparseSearchQwen3ForCausalLM = _uneven_model(Qwen3ForCausalLM, SparseSearchQwen3Config)
