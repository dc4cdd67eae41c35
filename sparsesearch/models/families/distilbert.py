"""DistilBERT: norms follow the sublayers and stay when a sublayer is dropped."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.sublayers import NO_CACHE, Heads, Linears, span


def describe(model: Any, builder: NetworkBuilder) -> None:
    """Describe DistilBERT."""
    heads = model.config.n_heads
    size = model.config.dim // heads
    for block in range(model.config.n_layers):
        layer = f"{builder.root}transformer.layer.{block}"
        path, ffn = f"{layer}.attention", f"{layer}.ffn"
        index = {f"{path}.{name}": span(heads, size) for name in ("q_lin", "k_lin", "v_lin")}
        builder.attention(
            block,
            path,
            Linears(index, f"{path}.out_lin"),
            Heads(heads, 1, size, attributes=[("n_heads", 1), ("dim", size)]),
            context=NO_CACHE,
        )
        builder.ffn(block, ffn, [f"{ffn}.lin1"], f"{ffn}.lin2")
