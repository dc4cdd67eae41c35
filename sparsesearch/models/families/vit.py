"""ViT and DeiT: norms before the sublayers, every head a KV group of its own."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import Parts, span


def describe(model: Any, parts: Parts) -> None:
    """ViT, DeiT."""
    config = model.config
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    for block in range(config.num_hidden_layers):
        layer = f"{parts.root}layers.{block}"
        path, mlp = f"{layer}.attention", f"{layer}.mlp"
        index = {f"{path}.{name}": span(heads, size) for name in ("q_proj", "k_proj", "v_proj")}
        parts.attention(
            block,
            path,
            index,
            f"{path}.o_proj",
            groups=heads,
            queries=1,
            head_dim=size,
            cached=False,
            norms=[f"{layer}.layernorm_before"],
        )
        parts.ffn(block, mlp, [f"{mlp}.fc1"], f"{mlp}.fc2", norms=[f"{layer}.layernorm_after"])
