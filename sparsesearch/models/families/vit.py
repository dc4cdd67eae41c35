"""ViT and DeiT: norms before the sublayers, every head a KV group of its own."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.sublayers import NO_CACHE, Heads, Linears, span


def describe(model: Any, builder: NetworkBuilder) -> None:
    """Describe ViT and DeiT."""
    config = model.config
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    for block in range(config.num_hidden_layers):
        layer = f"{builder.root}layers.{block}"
        path, mlp = f"{layer}.attention", f"{layer}.mlp"
        index = {f"{path}.{name}": span(heads, size) for name in ("q_proj", "k_proj", "v_proj")}
        builder.attention(
            block,
            path,
            Linears(index, f"{path}.o_proj"),
            Heads(heads, 1, size),
            context=NO_CACHE,
            norms=[f"{layer}.layernorm_before"],
        )
        builder.ffn(block, mlp, [f"{mlp}.fc1"], f"{mlp}.fc2", norms=[f"{layer}.layernorm_after"])
