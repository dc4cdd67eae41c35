"""Phi-3: one linear for queries, keys and values of all heads, one for gate and up."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.sublayers import Elements, Heads, Linears, join_indices, span


def describe(model: Any, builder: NetworkBuilder) -> None:
    """Describe Phi-3 and Phi-4-mini."""
    config = model.config
    groups = config.num_key_value_heads
    queries = config.num_attention_heads // groups
    for block in range(config.num_hidden_layers):
        layer = f"{builder.root}layers.{block}"
        path = f"{layer}.self_attn"
        size = model.get_submodule(path).head_dim
        keys = config.num_attention_heads * size
        fused = join_indices(
            span(groups, queries * size), span(groups, size, keys), span(groups, size, keys + groups * size)
        )
        builder.attention(
            block,
            path,
            Linears({f"{path}.qkv_proj": fused}, f"{path}.o_proj"),
            Heads(
                groups,
                queries,
                size,
                attributes=[("config.num_attention_heads", queries), ("num_key_value_heads", 1)],
                query_attributes=[("config.num_attention_heads", groups), ("num_key_value_groups", 1)],
            ),
            norms=[f"{layer}.input_layernorm"],
        )
        mlp, neurons = f"{layer}.mlp", config.intermediate_size
        gate_and_up = join_indices(span(neurons, 1), span(neurons, 1, neurons))
        builder.sublayer(
            "ffn",
            block,
            mlp,
            Linears({f"{mlp}.gate_up_proj": gate_and_up}, f"{mlp}.down_proj"),
            Elements(neurons),
            norms=[f"{layer}.post_attention_layernorm"],
        )
