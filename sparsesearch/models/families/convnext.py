"""ConvNeXt: the pointwise linears of a block are a feed-forward sublayer; depthwise convolutions take sparsity only."""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import Parts


def describe(model: Any, parts: Parts) -> None:
    """ConvNeXt."""
    parts.limits.append("channels of the residual stream cannot be cut: norms are taken over all of them")
    for stage, depth in enumerate(model.config.depths):
        for number in range(depth):
            layer = f"{parts.root}encoder.stages.{stage}.layers.{number}"
            block = len(parts.blocks)
            parts.blocks.append(layer)
            parts.matrix(f"{layer}.dwconv", block)
            up, down = f"{layer}.pwconv1", f"{layer}.pwconv2"
            stand_ins = [(up, "identity"), (down, "ffn")]
            parts.ffn(block, f"{layer}.ffn", [up], down, stand_ins=stand_ins)
