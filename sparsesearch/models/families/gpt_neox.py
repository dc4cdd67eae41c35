"""GPT-NeoX and Pythia: queries, keys and values of a head lie side by side in one projection."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import Parts, span


def describe(model: Any, parts: Parts) -> None:
    """GPT-NeoX, Pythia; with the parallel residual both sublayers read the block's input."""
    config = model.config
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    for block in range(config.num_hidden_layers):
        layer = f"{parts.root}layers.{block}"
        path, mlp = f"{layer}.attention", f"{layer}.mlp"
        parts.attention(
            block,
            path,
            {f"{path}.query_key_value": span(heads, 3 * size)},
            f"{path}.dense",
            groups=heads,
            queries=1,
            head_dim=size,
            norms=[f"{layer}.input_layernorm"],
        )
        norms = [f"{layer}.post_attention_layernorm"]
        parts.ffn(block, mlp, [f"{mlp}.dense_h_to_4h"], f"{mlp}.dense_4h_to_h", norms=norms)
