"""OPT: the feed-forward linears lie in the layer itself, norms stand before or after the sublayers."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.sublayers import Heads, Linears, span


def describe(model: Any, builder: NetworkBuilder) -> None:
    """Describe OPT; a norm after a sublayer stays when the sublayer is dropped."""
    config = model.config
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    for block in range(config.num_hidden_layers):
        layer = f"{builder.root}decoder.layers.{block}"
        path = f"{layer}.self_attn"
        before = config.do_layer_norm_before
        index = {f"{path}.{name}": span(heads, size) for name in ("q_proj", "k_proj", "v_proj")}
        builder.attention(
            block,
            path,
            Linears(index, f"{path}.out_proj"),
            Heads(heads, 1, size, attributes=[("num_heads", 1)]),
            norms=[f"{layer}.self_attn_layer_norm"] if before else [],
        )
        stand_ins = [(f"{layer}.fc1", "identity"), (f"{layer}.fc2", "ffn")]
        norms = [f"{layer}.final_layer_norm"] if before else []
        builder.ffn(block, f"{layer}.fc", [f"{layer}.fc1"], f"{layer}.fc2", stand_ins=stand_ins, norms=norms)
