"""The Llama family: Llama, Mistral, Qwen2 and Qwen3 share their module names in stock transformers 5.

An FFN neuron is a row of gate_proj and up_proj and a column of down_proj. A KV group is `head_dim` rows of k_proj and
v_proj, and the rows of q_proj and columns of o_proj of all its query heads, which transformers stores side by side.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from sparsesearch.models.architecture import Axis, Linear, Sublayer


def sublayers(model: Any) -> list[Sublayer]:
    """Attention and feed-forward sublayers of every block, in order."""
    return [
        sublayer
        for index in range(model.config.num_hidden_layers)
        for sublayer in (_attention(model, index), _ffn(model, index))
    ]


def _linear(model: Any, path: str, axis: Axis, span: int, reads: str) -> Linear:
    module = model.get_submodule(path)
    assert isinstance(module, nn.Linear)
    return Linear(path, module.out_features, module.in_features, axis, span, reads, module.bias is not None)


def _attention(model: Any, index: int) -> Sublayer:
    path = f"model.layers.{index}.self_attn"
    config, module = model.config, model.get_submodule(path)
    queries = config.num_attention_heads // config.num_key_value_heads
    head_dim = module.head_dim
    linears = (
        _linear(model, f"{path}.q_proj", "rows", head_dim * queries, f"{path}.q_proj"),
        _linear(model, f"{path}.k_proj", "rows", head_dim, f"{path}.q_proj"),
        _linear(model, f"{path}.v_proj", "rows", head_dim, f"{path}.q_proj"),
        _linear(model, f"{path}.o_proj", "columns", head_dim * queries, f"{path}.o_proj"),
    )
    extras = tuple(f"{path}.{name}.weight" for name in ("q_norm", "k_norm") if hasattr(module, name))
    norm = f"model.layers.{index}.input_layernorm"
    return Sublayer(
        "attention", index, path, norm, config.num_key_value_heads, linears, extras, head_dim=head_dim, queries=queries
    )


def _ffn(model: Any, index: int) -> Sublayer:
    path = f"model.layers.{index}.mlp"
    linears = (
        _linear(model, f"{path}.gate_proj", "rows", 1, f"{path}.gate_proj"),
        _linear(model, f"{path}.up_proj", "rows", 1, f"{path}.gate_proj"),
        _linear(model, f"{path}.down_proj", "columns", 1, f"{path}.down_proj"),
    )
    norm = f"model.layers.{index}.post_attention_layernorm"
    return Sublayer("ffn", index, path, norm, linears[0].rows, linears)
