"""T5 and FLAN-T5: an encoder and a decoder with cross-attention.

All layers of a stack share one table of position biases with an entry for each head, so that heads cannot be cut layer
by layer; the first self-attention of each stack computes these biases and stays.
"""

from __future__ import annotations

from typing import Any

from sparsesearch.errors import problem
from sparsesearch.models.builder import Parts, span


def describe(model: Any, parts: Parts) -> None:
    """T5; raises InputError SS202 for what holds its encoder and decoder somewhere else."""
    if not (hasattr(model, "encoder") and hasattr(model, "decoder")):
        raise problem(
            "SS202",
            f"no family map for {type(model).__name__}.",
            fix="Of T5 there is one for T5ForConditionalGeneration.",
        )
    parts.limits.append("KV groups cannot be cut: all layers share position biases with an entry for each head")
    config = model.config
    decoder_layers = config.num_decoder_layers or config.num_layers
    for block in range(config.num_layers):
        layer = f"encoder.block.{block}.layer"
        _attention(config, parts, block, f"{layer}.0.SelfAttention", f"{layer}.0.layer_norm", keep=block == 0)
        _ffn(model, parts, block, f"{layer}.1")
    for number in range(decoder_layers):
        block, layer = config.num_layers + number, f"decoder.block.{number}.layer"
        _attention(config, parts, block, f"{layer}.0.SelfAttention", f"{layer}.0.layer_norm", keep=number == 0)
        _attention(config, parts, block, f"{layer}.1.EncDecAttention", f"{layer}.1.layer_norm", keep=number == 0)
        _ffn(model, parts, block, f"{layer}.2")


def _attention(config: Any, parts: Parts, block: int, path: str, norm: str, keep: bool) -> None:
    cross = path.endswith("EncDecAttention")
    index = {f"{path}.{name}": span(config.num_heads, config.d_kv) for name in ("q", "k", "v")}
    parts.attention(
        block,
        path,
        index,
        f"{path}.o",
        groups=config.num_heads,
        queries=1,
        head_dim=config.d_kv,
        cut=False,
        own_input=[f"{path}.k", f"{path}.v"] if cross else [],
        stand_ins=[(path, "biased_attention")],
        norms=[norm],
        cached=path.startswith("decoder"),
    )
    if keep:
        del parts.drops[f"{path}.drop_attention"]


def _ffn(model: Any, parts: Parts, block: int, layer: str) -> None:
    path = f"{layer}.DenseReluDense"
    ups = ["wi_0", "wi_1"] if hasattr(model.get_submodule(path), "wi_0") else ["wi"]
    parts.ffn(block, path, [f"{path}.{name}" for name in ups], f"{path}.wo", norms=[f"{layer}.layer_norm"])
