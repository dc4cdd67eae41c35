"""ConvNeXt: the pointwise linears of a block are a feed-forward sublayer; depthwise convolutions take sparsity only."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import NetworkBuilder


def describe(model: Any, builder: NetworkBuilder) -> None:
    """Describe ConvNeXt."""
    builder.unsearchable.append("channels of the residual stream cannot be cut: norms are taken over all of them")
    for stage, depth in enumerate(model.config.depths):
        for number in range(depth):
            layer = f"{builder.root}encoder.stages.{stage}.layers.{number}"
            block = len(builder.blocks)
            builder.blocks.append(layer)
            builder.matrix(f"{layer}.dwconv", block)
            up, down = f"{layer}.pwconv1", f"{layer}.pwconv2"
            stand_ins = [(up, "identity"), (down, "ffn")]
            builder.ffn(block, f"{layer}.ffn", [up], down, stand_ins=stand_ins)
