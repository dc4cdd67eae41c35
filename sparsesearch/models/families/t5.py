"""T5 and FLAN-T5: an encoder and a decoder with cross-attention.

All layers of a stack share one table of position biases with an entry for each head, so that heads cannot be cut layer
by layer; the first self-attention of each stack computes these biases and stays.
"""

from __future__ import annotations

from typing import Any

from sparsesearch.errors import problem
from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.sublayers import Context, Heads, Linears, span


def describe(model: Any, builder: NetworkBuilder) -> None:
    """Describe T5; raises InputError SS202 for a class whose encoder and decoder are not its own modules."""
    if not (hasattr(model, "encoder") and hasattr(model, "decoder")):
        raise problem(
            "SS202",
            f"no family map for {type(model).__name__}.",
            fix="T5 is supported as T5ForConditionalGeneration.",
        )
    builder.unsearchable.append("KV groups cannot be cut: all layers share position biases with an entry for each head")
    config = model.config
    decoder_layers = config.num_decoder_layers or config.num_layers
    for block in range(config.num_layers):
        layer = f"encoder.block.{block}.layer"
        _attention(config, builder, block, f"{layer}.0.SelfAttention", f"{layer}.0.layer_norm", keep=block == 0)
        _ffn(model, builder, block, f"{layer}.1")
    for number in range(decoder_layers):
        block, layer = config.num_layers + number, f"decoder.block.{number}.layer"
        _attention(config, builder, block, f"{layer}.0.SelfAttention", f"{layer}.0.layer_norm", keep=number == 0)
        _attention(config, builder, block, f"{layer}.1.EncDecAttention", f"{layer}.1.layer_norm", keep=number == 0)
        _ffn(model, builder, block, f"{layer}.2")


def _attention(config: Any, builder: NetworkBuilder, block: int, path: str, norm: str, keep: bool) -> None:
    cross = path.endswith("EncDecAttention")
    index = {f"{path}.{name}": span(config.num_heads, config.d_kv) for name in ("q", "k", "v")}
    builder.attention(
        block,
        path,
        Linears(index, f"{path}.o", own_input=[f"{path}.k", f"{path}.v"] if cross else []),
        Heads(config.num_heads, 1, config.d_kv, removable=False),
        context=Context(cached=path.startswith("decoder")),
        stand_ins=[(path, "biased_attention")],
        norms=[norm],
    )
    if keep:
        del builder.drops[f"{path}.drop_attention"]


def _ffn(model: Any, builder: NetworkBuilder, block: int, layer: str) -> None:
    path = f"{layer}.DenseReluDense"
    ups = ["wi_0", "wi_1"] if hasattr(model.get_submodule(path), "wi_0") else ["wi"]
    builder.ffn(block, path, [f"{path}.{name}" for name in ups], f"{path}.wo", norms=[f"{layer}.layer_norm"])
