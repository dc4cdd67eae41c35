"""Swin: attention within windows, with a bias for each head and relative position."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.network import Slot
from sparsesearch.models.sublayers import Context, Heads, Linears, span


def describe(model: Any, builder: NetworkBuilder) -> None:
    """Describe Swin."""
    for stage, depth in enumerate(model.config.depths):
        for number in range(depth):
            layer = f"{builder.root}encoder.layers.{stage}.blocks.{number}"
            builder.blocks.append(layer)
            _block(model.get_submodule(layer), builder, len(builder.blocks) - 1, layer)


def _block(module: Any, builder: NetworkBuilder, block: int, layer: str) -> None:
    path, mlp = f"{layer}.attention", f"{layer}.mlp"
    heads, size = module.attention.num_attention_heads, module.attention.head_dim
    index = {f"{path}.{name}": span(heads, size) for name in ("q_proj", "k_proj", "v_proj")}
    biases = Slot(f"{path}.relative_position_bias.relative_position_bias_table", 1, span(heads, 1))
    builder.attention(
        block,
        path,
        Linears(index, f"{path}.o_proj"),
        Heads(heads, 1, size, attributes=[("num_attention_heads", 1)], extra_slots=[biases]),
        context=Context(cached=False, keys=module.window_size**2),
        norms=[f"{layer}.layernorm_before"],
    )
    builder.ffn(block, mlp, [f"{mlp}.fc1"], f"{mlp}.fc2", norms=[f"{layer}.layernorm_after"])
