"""Recipes that take a second, and configs of tiny models of every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

from sparsesearch.config import RunConfig
from sparsesearch.engine import controller
from sparsesearch.engine.launch import Launch, prepare
from sparsesearch.engine.progress import Reporter
from sparsesearch.engine.results import RunResults
from sparsesearch.models import dense_config, describe, meta_model
from sparsesearch.models.units import modules_of

SIZES: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_MULTI_HEAD = {"num_key_value_heads": None, "pad_token_id": None}
_MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "num_hidden_layers": 2}
_DEEPSEEK = {
    "num_key_value_heads": 8, "num_hidden_layers": 2, "first_k_dense_replace": 1, "n_routed_experts": 8,
    "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1, "kv_lora_rank": 8,
    "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8,
}  # fmt: skip
# Name: configuration class, model class, and what differs from SIZES; None takes a size away.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {"tie_word_embeddings": True}),
    "llama-biased": (
        "LlamaConfig", "LlamaForCausalLM",
        {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True, "head_dim": 8},
    ),
    "mistral": (
        "MistralConfig", "MistralForCausalLM", {"tie_word_embeddings": False, "head_dim": 8, "sliding_window": 8},
    ),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    "qwen2-sliding": (
        "Qwen2Config", "Qwen2ForCausalLM",
        {"tie_word_embeddings": False, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", {"tie_word_embeddings": True, "head_dim": 16}),
    "granite": ("GraniteConfig", "GraniteForCausalLM", {"residual_multiplier": 0.5}),
    "smollm3": ("SmolLM3Config", "SmolLM3ForCausalLM", {"no_rope_layer_interval": 2, "pad_token_id": None}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {"head_dim": 8, "sliding_window": 8}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {"head_dim": 8, "sliding_window": 8}),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", {"pad_token_id": None}),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {"pad_token_id": None}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {**_MULTI_HEAD, "n_inner": 48, "intermediate_size": None}),
    "opt": (
        "OPTConfig", "OPTForCausalLM",
        {**_MULTI_HEAD, "ffn_dim": 48, "intermediate_size": None, "word_embed_proj_dim": 32},
    ),
    "opt-post": (
        "OPTConfig", "OPTForCausalLM",
        {**_MULTI_HEAD, "ffn_dim": 48, "intermediate_size": None, "word_embed_proj_dim": 32,
         "do_layer_norm_before": False},
    ),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", _MULTI_HEAD),
    "mixtral": (
        "MixtralConfig", "MixtralForCausalLM",
        {"num_local_experts": 6, "num_experts_per_tok": 2, "num_hidden_layers": 2, "intermediate_size": 32},
    ),
    "qwen2_moe": (
        "Qwen2MoeConfig", "Qwen2MoeForCausalLM",
        {**_MOE, "shared_expert_intermediate_size": 16, "mlp_only_layers": [0]},
    ),
    "qwen3_moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", {**_MOE, "head_dim": 8}),
    "olmoe": (
        "OlmoeConfig", "OlmoeForCausalLM", {**_MOE, "moe_intermediate_size": None, "intermediate_size": 32},
    ),
    "deepseek_v2": (
        "DeepseekV2Config", "DeepseekV2ForCausalLM", {**_DEEPSEEK, "q_lora_rank": None, "topk_method": "greedy"},
    ),
    "deepseek_v3": (
        "DeepseekV3Config", "DeepseekV3ForCausalLM", {**_DEEPSEEK, "q_lora_rank": 16, "n_group": 2, "topk_group": 1},
    ),
}  # fmt: skip


def tiny_model(name: str) -> Any:
    """A network of a family with random weights."""
    config_class, model_class, changes = FAMILIES[name]
    sizes = {key: value for key, value in SIZES.items() if changes.get(key, value) is not None} | changes
    config = getattr(transformers, config_class)(**sizes, initializer_range=0.2)
    return getattr(transformers, model_class)(config)


ALL_KINDS: list[dict[str, Any]] = [
    {"kind": "sparsity", "levels": ["40%", "75%"]},
    {"kind": "ffn_width", "levels": [0.75, 0.5, 0.25]},
    {"kind": "kv_groups"},
    {"kind": "drop_attention"},
    {"kind": "drop_ffn"},
    {"kind": "experts"},
    {"kind": "expert_width", "levels": 2, "min_kept": "50%"},
]


def kinds_of(model: Path | str) -> list[dict[str, Any]]:
    """Families of units of every kind that a model has."""
    config = dense_config(Path(model))
    network = describe(meta_model(config))
    return [family for family in ALL_KINDS if modules_of(family["kind"], network)]


def recipe(model: Path | str, /, **changes: Any) -> dict[str, Any]:
    """A run that takes a second: tiny data, random search."""
    tree: dict[str, Any] = {
        "model": {"id": str(model)},
        "units": [{"kind": "ffn_width", "levels": 3}, {"kind": "kv_groups"}],
        "objectives": ["kl", "nonzeros"],
        "data": {
            "calibration": {"source": "stdlib:calibration", "sequences": 6, "length": 16, "take": "first"},
            "selection": {"source": "stdlib:selection", "sequences": 6, "length": 16, "take": "first"},
        },
        "batch": 4,
        "search": {"searcher": "random", "evals": 12, "final": 4, "options": {"batch": 6, "tokens": 32, "sizes": 2}},
        "executor": {"kind": "local"},
    }
    return tree | changes


def launched(model: Path | str, **changes: Any) -> Launch:
    return prepare(RunConfig.model_validate(recipe(model, **changes)))


def run_search(path: Path, model: Path | str, **changes: Any) -> RunResults:
    """A finished run in `path`."""
    return controller.start(launched(model, **changes), path, Reporter(quiet=True))
