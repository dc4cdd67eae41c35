"""Mixtures of experts: Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, and DeepSeek V2 and V3 with latent attention.

transformers 5 keeps the experts of a layer in two 3-D tensors beside a top-k router. An expert is removed with its row
of the router; the router chooses its top k among the experts that stay.
"""

from __future__ import annotations

import math
from typing import Any

from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.families import llama
from sparsesearch.models.sublayers import Context, Heads, Linears, Routing, span


def describe(model: Any, builder: NetworkBuilder) -> None:
    """Describe Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE: Llama's attention, and in some layers a dense FFN."""
    for block in range(model.config.num_hidden_layers):
        layer = f"{builder.root}layers.{block}"
        llama.attention(model, builder, block, [f"{layer}.input_layernorm"])
        _ffn_or_experts(model, builder, block)


def describe_deepseek(model: Any, builder: NetworkBuilder) -> None:
    """Describe DeepSeek V2 and V3."""
    for block in range(model.config.num_hidden_layers):
        _latent_attention(model, builder, block)
        _ffn_or_experts(model, builder, block)


def _ffn_or_experts(model: Any, builder: NetworkBuilder, block: int) -> None:
    path, norms = f"{builder.root}layers.{block}.mlp", [f"{builder.root}layers.{block}.post_attention_layernorm"]
    module, config = model.get_submodule(path), model.config
    if not hasattr(module, "experts"):
        llama.ffn(builder, block, norms)
        return
    groups, minimum = 1, config.num_experts_per_tok
    limited = getattr(config, "topk_method", "group_limited") != "greedy"
    if limited and getattr(config, "n_group", None):
        # The router first chooses groups, then among their experts; DeepSeek V3 ranks a group by its best two.
        groups = config.n_group
        minimum = max(
            math.ceil(minimum / config.topk_group), 2 if hasattr(module.gate, "e_score_correction_bias") else 1
        )
    shared = next((name for name in ("shared_expert", "shared_experts") if hasattr(module, name)), "")
    plain = [f"{path}.shared_expert_gate"] if hasattr(module, "shared_expert_gate") else []
    builder.moe(
        block,
        path,
        Routing(config.num_experts_per_tok, groups, minimum),
        norms=norms,
        shared=shared,
        plain=plain,
    )


def _latent_attention(model: Any, builder: NetworkBuilder, block: int) -> None:
    """Add multi-head latent attention: heads share compressed keys and values, and only these are cached."""
    path = f"{builder.root}layers.{block}.self_attn"
    module, config = model.get_submodule(path), model.config
    heads, query = config.num_attention_heads, module.qk_head_dim
    low_rank = module.q_lora_rank is not None
    name = f"{path}.q_b_proj" if low_rank else f"{path}.q_proj"
    index = {
        name: span(heads, query),
        f"{path}.kv_b_proj": span(heads, config.qk_nope_head_dim + config.v_head_dim),
    }
    plain = [f"{path}.kv_a_proj_with_mqa"]
    if low_rank:
        plain.insert(0, f"{path}.q_a_proj")
    builder.attention(
        block,
        path,
        Linears(index, f"{path}.o_proj", plain, [f"{path}.kv_b_proj", *(plain if low_rank else [])]),
        Heads(heads, 1, query, config.v_head_dim, attributes=[("num_heads", 1)]),
        context=Context(cached=False, always_cached=config.kv_lora_rank + config.qk_rope_head_dim),
        norms=[f"{builder.root}layers.{block}.input_layernorm"],
    )
