"""GPT-NeoX and Pythia: queries, keys and values of a head lie side by side in one projection."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.sublayers import Heads, Linears, span


def describe(model: Any, builder: NetworkBuilder) -> None:
    """Describe GPT-NeoX and Pythia; with the parallel residual both sublayers read the block's input."""
    config = model.config
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    for block in range(config.num_hidden_layers):
        layer = f"{builder.root}layers.{block}"
        path, mlp = f"{layer}.attention", f"{layer}.mlp"
        builder.attention(
            block,
            path,
            Linears({f"{path}.query_key_value": span(heads, 3 * size)}, f"{path}.dense"),
            Heads(heads, 1, size),
            norms=[f"{layer}.input_layernorm"],
        )
        norms = [f"{layer}.post_attention_layernorm"]
        builder.ffn(block, mlp, [f"{mlp}.dense_h_to_4h"], f"{mlp}.dense_4h_to_h", norms=norms)
