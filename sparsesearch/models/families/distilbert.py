"""DistilBERT: norms follow the sublayers and stay when a sublayer is dropped."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import Parts, span


def describe(model: Any, parts: Parts) -> None:
    """DistilBERT."""
    heads = model.config.n_heads
    size = model.config.dim // heads
    for block in range(model.config.n_layers):
        layer = f"{parts.root}transformer.layer.{block}"
        path, ffn = f"{layer}.attention", f"{layer}.ffn"
        index = {f"{path}.{name}": span(heads, size) for name in ("q_lin", "k_lin", "v_lin")}
        parts.attention(
            block,
            path,
            index,
            f"{path}.out_lin",
            groups=heads,
            queries=1,
            head_dim=size,
            cached=False,
            attributes=[("n_heads", 1), ("dim", size)],
        )
        parts.ffn(block, ffn, [f"{ffn}.lin1"], f"{ffn}.lin2")
