"""Recipes that take a second, and configs of tiny models of every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sparsesearch.config import RunConfig
from sparsesearch.engine import controller
from sparsesearch.engine.launch import Launch, prepare
from sparsesearch.engine.progress import Reporter
from sparsesearch.engine.results import RunResults

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
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama-biased": (
        LlamaConfig,
        LlamaForCausalLM,
        {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True, "head_dim": 8},
    ),
    "mistral": (MistralConfig, MistralForCausalLM, {"tie_word_embeddings": False, "head_dim": 8, "sliding_window": 8}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True}),
    "qwen2-sliding": (
        Qwen2Config,
        Qwen2ForCausalLM,
        {"tie_word_embeddings": False, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"tie_word_embeddings": True, "head_dim": 16}),
}
ALL_KINDS: list[dict[str, Any]] = [
    {"kind": "sparsity", "levels": ["40%", "75%"]},
    {"kind": "ffn_width", "levels": [0.75, 0.5, 0.25]},
    {"kind": "kv_groups"},
    {"kind": "drop_attention"},
    {"kind": "drop_ffn"},
]


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
