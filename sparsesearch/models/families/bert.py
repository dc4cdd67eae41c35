"""BERT and RoBERTa, and DeBERTa v2 and v3 with their projections of relative positions.

Norms follow the sublayers and stay when a sublayer is dropped. Every head is a KV group of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.sublayers import NO_CACHE, Heads, Linears, span


def describe(model: Any, builder: NetworkBuilder) -> None:
    """Describe BERT, RoBERTa and sentence encoders made of them."""
    for block in range(model.config.num_hidden_layers):
        layer = f"{builder.root}encoder.layer.{block}"
        _attention(model, builder, block, layer, ("query", "key", "value"), ())
        _ffn(builder, block, layer)


def describe_deberta(model: Any, builder: NetworkBuilder) -> None:
    """Describe DeBERTa v2 and v3."""
    for block in range(model.config.num_hidden_layers):
        layer = f"{builder.root}encoder.layer.{block}"
        module = model.get_submodule(f"{layer}.attention.self")
        positions = [name for name in ("pos_key_proj", "pos_query_proj") if hasattr(module, name)]
        _attention(model, builder, block, layer, ("query_proj", "key_proj", "value_proj"), positions)
        _ffn(builder, block, layer)


def _attention(
    model: Any, builder: NetworkBuilder, block: int, layer: str, names: Sequence[str], positions: Sequence[str]
) -> None:
    path, output = f"{layer}.attention.self", f"{layer}.attention.output.dense"
    heads = model.config.num_attention_heads
    size = model.get_submodule(path).attention_head_size
    index = {f"{path}.{name}": span(heads, size) for name in (*names, *positions)}
    builder.attention(
        block,
        path,
        Linears(index, output, own_input=[f"{path}.{name}" for name in positions]),
        Heads(heads, 1, size, attributes=[("num_attention_heads", 1), ("all_head_size", size)]),
        context=NO_CACHE,
        stand_ins=[(path, "attention"), (output, "ffn")],
    )


def _ffn(builder: NetworkBuilder, block: int, layer: str) -> None:
    up, down = f"{layer}.intermediate.dense", f"{layer}.output.dense"
    builder.ffn(block, f"{layer}.ffn", [up], down, stand_ins=[(up, "identity"), (down, "ffn")])
