"""Llama and the families that share its module names in stock transformers 5: Mistral, Qwen 2 and 3, Granite, SmolLM3,
Gemma, OLMo 2, and the attention of the mixtures of experts.

An FFN neuron is a row of gate_proj and up_proj and a column of down_proj. A KV group is `head_dim` rows of k_proj and
v_proj, and the rows of q_proj and columns of o_proj of all its query heads, which lie side by side.
"""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.sublayers import Heads, Linears, span

PRE_NORMS = ("input_layernorm",), ("post_attention_layernorm",)
# Gemma normalises the inputs and the outputs of a sublayer.
SANDWICH_NORMS = (
    ("input_layernorm", "post_attention_layernorm"),
    ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
)
# OLMo 2 normalises outputs only.
POST_NORMS = ("post_attention_layernorm",), ("post_feedforward_layernorm",)


def describe(model: Any, builder: NetworkBuilder) -> None:
    """Describe Llama, Mistral, Qwen2, Qwen3, Granite, SmolLM3."""
    _describe(model, builder, PRE_NORMS)


def describe_gemma(model: Any, builder: NetworkBuilder) -> None:
    """Describe Gemma 2 and 3."""
    _describe(model, builder, SANDWICH_NORMS)


def describe_olmo2(model: Any, builder: NetworkBuilder) -> None:
    """Describe OLMo 2."""
    _describe(model, builder, POST_NORMS)


def _describe(model: Any, builder: NetworkBuilder, norms: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    for block in range(model.config.num_hidden_layers):
        layer = f"{builder.root}layers.{block}"
        attention(model, builder, block, [f"{layer}.{n}" for n in norms[0]])
        ffn(builder, block, [f"{layer}.{n}" for n in norms[1]])


def attention(model: Any, builder: NetworkBuilder, block: int, norms: list[str]) -> None:
    """Add grouped-query attention with separate projections."""
    path = f"{builder.root}layers.{block}.self_attn"
    module, config = model.get_submodule(path), model.config
    groups = config.num_key_value_heads
    queries, head_dim = config.num_attention_heads // groups, module.head_dim
    separable = not hasattr(module, "q_norm") or module.q_norm.weight.numel() == head_dim
    if not separable:
        reason = "KV groups cannot be cut: the norm of queries and keys is taken over all heads together"
        if reason not in builder.unsearchable:
            builder.unsearchable.append(reason)
    index = {
        f"{path}.q_proj": span(groups, queries * head_dim),
        f"{path}.k_proj": span(groups, head_dim),
        f"{path}.v_proj": span(groups, head_dim),
    }
    builder.attention(
        block,
        path,
        Linears(index, f"{path}.o_proj"),
        Heads(groups, queries, head_dim, removable=separable),
        norms=norms,
    )


def ffn(builder: NetworkBuilder, block: int, norms: list[str]) -> None:
    """Add a gated feed-forward sublayer."""
    path = f"{builder.root}layers.{block}.mlp"
    builder.ffn(block, path, [f"{path}.gate_proj", f"{path}.up_proj"], f"{path}.down_proj", norms=norms)
