"""BERT and RoBERTa, and DeBERTa v2 and v3 with their projections of relative positions.

Norms follow the sublayers and stay when a sublayer is dropped. Every head is a KV group of its own.
"""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import Parts, span


def describe(model: Any, parts: Parts) -> None:
    """BERT, RoBERTa and sentence encoders made of them."""
    for block in range(model.config.num_hidden_layers):
        layer = f"{parts.root}encoder.layer.{block}"
        _attention(model, parts, block, layer, ("query", "key", "value"), ())
        _ffn(parts, block, layer)


def describe_deberta(model: Any, parts: Parts) -> None:
    """DeBERTa v2 and v3."""
    for block in range(model.config.num_hidden_layers):
        layer = f"{parts.root}encoder.layer.{block}"
        module = model.get_submodule(f"{layer}.attention.self")
        positions = [name for name in ("pos_key_proj", "pos_query_proj") if hasattr(module, name)]
        _attention(model, parts, block, layer, ("query_proj", "key_proj", "value_proj"), positions)
        _ffn(parts, block, layer)


def _attention(model: Any, parts: Parts, block: int, layer: str, names: tuple[str, ...], positions: Any) -> None:
    path, output = f"{layer}.attention.self", f"{layer}.attention.output.dense"
    heads = model.config.num_attention_heads
    size = model.get_submodule(path).attention_head_size
    index = {f"{path}.{name}": span(heads, size) for name in (*names, *positions)}
    parts.attention(
        block,
        path,
        index,
        output,
        groups=heads,
        queries=1,
        head_dim=size,
        cached=False,
        own_input=[f"{path}.{name}" for name in positions],
        attributes=[("num_attention_heads", 1), ("all_head_size", size)],
        stand_ins=[(path, "attention"), (output, "ffn")],
    )


def _ffn(parts: Parts, block: int, layer: str) -> None:
    up, down = f"{layer}.intermediate.dense", f"{layer}.output.dense"
    parts.ffn(block, f"{layer}.ffn", [up], down, stand_ins=[(up, "identity"), (down, "ffn")])
