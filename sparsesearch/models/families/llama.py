"""Llama and what shares its module names in stock transformers 5: Mistral, Qwen 2 and 3, Granite, SmolLM3, Gemma,
OLMo 2, and the attention of the mixtures of experts.

An FFN neuron is a row of gate_proj and up_proj and a column of down_proj. A KV group is `head_dim` rows of k_proj and
v_proj, and the rows of q_proj and columns of o_proj of all its query heads, which lie side by side.
"""

from __future__ import annotations

from typing import Any

from sparsesearch.models.builder import Parts, span

PRE_NORMS = ("input_layernorm",), ("post_attention_layernorm",)
# Gemma normalises what goes into a sublayer and what comes out of it.
SANDWICH_NORMS = (
    ("input_layernorm", "post_attention_layernorm"),
    ("pre_feedforward_layernorm", "post_feedforward_layernorm"),
)
# OLMo 2 normalises outputs only.
POST_NORMS = ("post_attention_layernorm",), ("post_feedforward_layernorm",)


def describe(model: Any, parts: Parts) -> None:
    """Llama, Mistral, Qwen2, Qwen3, Granite, SmolLM3."""
    _describe(model, parts, PRE_NORMS)


def describe_gemma(model: Any, parts: Parts) -> None:
    """Gemma 2 and 3."""
    _describe(model, parts, SANDWICH_NORMS)


def describe_olmo2(model: Any, parts: Parts) -> None:
    """OLMo 2."""
    _describe(model, parts, POST_NORMS)


def _describe(model: Any, parts: Parts, norms: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    for block in range(model.config.num_hidden_layers):
        layer = f"{parts.root}layers.{block}"
        attention(model, parts, block, [f"{layer}.{n}" for n in norms[0]])
        ffn(parts, block, [f"{layer}.{n}" for n in norms[1]])


def attention(model: Any, parts: Parts, block: int, norms: list[str]) -> None:
    """Grouped-query attention with separate projections."""
    path = f"{parts.root}layers.{block}.self_attn"
    module, config = model.get_submodule(path), model.config
    groups = config.num_key_value_heads
    queries, head_dim = config.num_attention_heads // groups, module.head_dim
    separable = not hasattr(module, "q_norm") or module.q_norm.weight.numel() == head_dim
    if not separable:
        note = "KV groups cannot be cut: the norm of queries and keys is taken over all heads together"
        if note not in parts.limits:
            parts.limits.append(note)
    index = {
        f"{path}.q_proj": span(groups, queries * head_dim),
        f"{path}.k_proj": span(groups, head_dim),
        f"{path}.v_proj": span(groups, head_dim),
    }
    parts.attention(
        block,
        path,
        index,
        f"{path}.o_proj",
        groups=groups,
        queries=queries,
        head_dim=head_dim,
        norms=norms,
        cut=separable,
    )


def ffn(parts: Parts, block: int, norms: list[str]) -> None:
    """A gated feed-forward sublayer."""
    path = f"{parts.root}layers.{block}.mlp"
    parts.ffn(block, path, [f"{path}.gate_proj", f"{path}.up_proj"], f"{path}.down_proj", norms=norms)
