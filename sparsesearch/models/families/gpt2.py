"""GPT-2: Conv1D weights are stored inputs first, and queries, keys and values of all heads share one projection."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.sublayers import Heads, Linears, join_indices, span


def describe(model: Any, builder: NetworkBuilder) -> None:
    """Describe GPT-2."""
    config = model.config
    heads, hidden = config.num_attention_heads, config.hidden_size
    size = hidden // heads
    index = join_indices(*(span(heads, size, part * hidden) for part in range(3)))
    for block in range(config.num_hidden_layers):
        layer = f"{builder.root}h.{block}"
        path = f"{layer}.attn"
        builder.attention(
            block,
            path,
            Linears({f"{path}.c_attn": index}, f"{path}.c_proj"),
            Heads(heads, 1, size, attributes=[("num_heads", 1), ("split_size", size)]),
            norms=[f"{layer}.ln_1"],
        )
        builder.ffn(block, f"{layer}.mlp", [f"{layer}.mlp.c_fc"], f"{layer}.mlp.c_proj", norms=[f"{layer}.ln_2"])
