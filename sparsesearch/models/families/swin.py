"""Swin: attention within windows, with a bias for each head and relative position."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import Parts, span
from sparsesearch.models.network import Slot


def describe(model: Any, parts: Parts) -> None:
    """Swin."""
    for stage, depth in enumerate(model.config.depths):
        for number in range(depth):
            layer = f"{parts.root}encoder.layers.{stage}.blocks.{number}"
            parts.blocks.append(layer)
            _block(model.get_submodule(layer), parts, len(parts.blocks) - 1, layer)


def _block(module: Any, parts: Parts, block: int, layer: str) -> None:
    path, mlp = f"{layer}.attention", f"{layer}.mlp"
    heads, size = module.attention.num_attention_heads, module.attention.head_dim
    index = {f"{path}.{name}": span(heads, size) for name in ("q_proj", "k_proj", "v_proj")}
    biases = Slot(f"{path}.relative_position_bias.relative_position_bias_table", 1, span(heads, 1))
    parts.attention(
        block,
        path,
        index,
        f"{path}.o_proj",
        groups=heads,
        queries=1,
        head_dim=size,
        cached=False,
        extra_slots=[biases],
        attributes=[("num_attention_heads", 1)],
        norms=[f"{layer}.layernorm_before"],
        keys=module.window_size**2,
    )
    parts.ffn(block, mlp, [f"{mlp}.fc1"], f"{mlp}.fc2", norms=[f"{layer}.layernorm_after"])
