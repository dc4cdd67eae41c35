"""Recipes that take a second, and configs of tiny models of every family."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from sparsesearch.bilevel.relaxed import RelaxedNetwork
from sparsesearch.engine import controller
from sparsesearch.files import read_json, write_json
from sparsesearch.models import load_tokenizer
from sparsesearch.models.load import DEMO
from sparsesearch.models.network import Network
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.space import Limit, Part, Space, Unit
from sparsesearch.supernet.compose import select
from sparsesearch.testing.networks import ALL_KINDS as ALL_KINDS
from sparsesearch.testing.networks import BuiltNetwork as Built
from sparsesearch.testing.networks import image_data as image_data
from sparsesearch.testing.networks import image_folder as image_folder
from sparsesearch.testing.networks import kinds_of as kinds_of
from sparsesearch.testing.networks import launch_of as launched
from sparsesearch.testing.networks import recipe as recipe
from sparsesearch.training.weights import Weights

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
    "num_key_value_heads": 8,
    "num_hidden_layers": 2,
    "first_k_dense_replace": 1,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 1,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
_DISTILBERT = {
    **_MULTI_HEAD,
    "hidden_size": None,
    "intermediate_size": None,
    "num_hidden_layers": None,
    "num_attention_heads": None,
    "dim": 32,
    "hidden_dim": 48,
    "n_layers": 3,
    "n_heads": 8,
    "pad_token_id": 0,
}
_T5 = {
    **_MULTI_HEAD,
    "hidden_size": None,
    "intermediate_size": None,
    "num_hidden_layers": None,
    "num_attention_heads": None,
    "max_position_embeddings": None,
    "d_model": 32,
    "d_ff": 48,
    "d_kv": 4,
    "num_layers": 2,
    "num_heads": 8,
    "pad_token_id": 0,
    "initializer_factor": 3.0,
}
_TEXT = ("vocab_size", "num_key_value_heads", "max_position_embeddings", "bos_token_id", "eos_token_id")
_IMAGES = {**dict.fromkeys(_TEXT), "image_size": 16, "patch_size": 4}
_NOTHING = dict.fromkeys(SIZES)
# Name: configuration class, model class, and what differs from SIZES; None takes a size away.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {"tie_word_embeddings": True}),
    "llama-biased": (
        "LlamaConfig",
        "LlamaForCausalLM",
        {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True, "head_dim": 8},
    ),
    "mistral": (
        "MistralConfig",
        "MistralForCausalLM",
        {"tie_word_embeddings": False, "head_dim": 8, "sliding_window": 8},
    ),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    "qwen2-sliding": (
        "Qwen2Config",
        "Qwen2ForCausalLM",
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
        "OPTConfig",
        "OPTForCausalLM",
        {**_MULTI_HEAD, "ffn_dim": 48, "intermediate_size": None, "word_embed_proj_dim": 32},
    ),
    "opt-post": (
        "OPTConfig",
        "OPTForCausalLM",
        {
            **_MULTI_HEAD,
            "ffn_dim": 48,
            "intermediate_size": None,
            "word_embed_proj_dim": 32,
            "do_layer_norm_before": False,
        },
    ),
    "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM", _MULTI_HEAD),
    "mixtral": (
        "MixtralConfig",
        "MixtralForCausalLM",
        {"num_local_experts": 6, "num_experts_per_tok": 2, "num_hidden_layers": 2, "intermediate_size": 32},
    ),
    "qwen2_moe": (
        "Qwen2MoeConfig",
        "Qwen2MoeForCausalLM",
        {**_MOE, "shared_expert_intermediate_size": 16, "mlp_only_layers": [0]},
    ),
    "qwen3_moe": ("Qwen3MoeConfig", "Qwen3MoeForCausalLM", {**_MOE, "head_dim": 8}),
    "olmoe": (
        "OlmoeConfig",
        "OlmoeForCausalLM",
        {**_MOE, "moe_intermediate_size": None, "intermediate_size": 32},
    ),
    "deepseek_v2": (
        "DeepseekV2Config",
        "DeepseekV2ForCausalLM",
        {**_DEEPSEEK, "q_lora_rank": None, "topk_method": "greedy"},
    ),
    "deepseek_v3": (
        "DeepseekV3Config",
        "DeepseekV3ForCausalLM",
        {**_DEEPSEEK, "q_lora_rank": 16, "n_group": 2, "topk_group": 1},
    ),
    "bert": ("BertConfig", "BertForMaskedLM", _MULTI_HEAD),
    "bert-embedding": ("BertConfig", "BertModel", _MULTI_HEAD),
    "roberta": ("RobertaConfig", "RobertaForSequenceClassification", {**_MULTI_HEAD, "pad_token_id": 1}),
    "distilbert": ("DistilBertConfig", "DistilBertForMaskedLM", _DISTILBERT),
    "distilbert-embedding": ("DistilBertConfig", "DistilBertModel", _DISTILBERT),
    "deberta": (
        "DebertaV2Config",
        "DebertaV2Model",
        {
            **_MULTI_HEAD,
            "pad_token_id": 0,
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": False,
        },
    ),
    "t5": ("T5Config", "T5ForConditionalGeneration", {**_T5, "feed_forward_proj": "gated-gelu"}),
    "t5-relu": ("T5Config", "T5ForConditionalGeneration", {**_T5, "tie_word_embeddings": False}),
    "vit": ("ViTConfig", "ViTForImageClassification", {**_IMAGES, "num_labels": 5}),
    "vit-embedding": ("ViTConfig", "ViTModel", _IMAGES),
    "deit": ("DeiTConfig", "DeiTForImageClassification", {**_IMAGES, "num_labels": 5}),
    "swin": (
        "SwinConfig",
        "SwinForImageClassification",
        {
            **_NOTHING,
            "image_size": 16,
            "patch_size": 2,
            "embed_dim": 16,
            "depths": [2, 1],
            "num_heads": [4, 8],
            "window_size": 4,
            "mlp_ratio": 2.0,
            "num_labels": 5,
        },
    ),
    "convnext": (
        "ConvNextConfig",
        "ConvNextForImageClassification",
        {
            **_NOTHING,
            "num_stages": 2,
            "hidden_sizes": [12, 16],
            "depths": [2, 1],
            "image_size": 16,
            "patch_size": 2,
            "layer_scale_init_value": 1.0,
            "num_labels": 5,
        },
    ),
}
# What their data are; token windows where not named here.
IMAGES = ("vit", "vit-embedding", "deit", "swin", "convnext")


def tiny_model(name: str) -> Any:
    """A network of a family with random weights."""
    config_class, model_class, changes = FAMILIES[name]
    sizes = {key: value for key, value in SIZES.items() if changes.get(key, value) is not None} | changes
    sizes = {key: value for key, value in sizes.items() if value is not None or key not in SIZES}
    config = getattr(transformers, config_class)(**sizes, initializer_range=0.2)
    return getattr(transformers, model_class)(config)


def saved_model(name: str, path: Path) -> Path:
    """A tiny model of a family with the demo tokenizer; biases and norms are not at their trivial values."""
    torch.manual_seed(0)
    model = tiny_model(name)
    for parameter_name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            with torch.no_grad():
                parameter.copy_(torch.randn_like(parameter) * 0.1 + ("norm" in parameter_name))
    model.save_pretrained(path)
    load_tokenizer(DEMO).save_pretrained(path)
    return path


def run_search(path: Path, model: Path | str, /, **changes: Any) -> RunResults:
    """A finished run in `path`."""
    return controller.start(launched(model, **changes), path, Reporter(quiet=True))


class First:
    """Levels that keep the first elements of everything, values as they are."""

    def __init__(self, model: Any, network: Network) -> None:
        self.model, self.network = model, network

    def kept(self, unit: Unit, level: int, elements: int) -> torch.Tensor:
        return torch.arange(unit.levels[level]).expand(self.network.cuts[unit.name].orders, -1)

    def cut(self, unit: Unit, level: int, reader: int) -> torch.Tensor:
        slot = self.network.cuts[unit.name].readers[reader]
        value = self.model.get_parameter(slot.tensor).data
        return self.network.matrices[slot.tensor].view(
            select(value, slot, slot.positions_of(self.kept(unit, level, 0)))
        )


def relaxed_of(built: Built, moves: Any = "frozen") -> RelaxedNetwork:
    """The family's dense network with all its units open to any degree."""
    model = built.supernet("sliced").materialise(built.space.dense)
    weights = Weights(model, built.launch.network, moves, built.launch.config.training)
    return RelaxedNetwork(built.launch.network, built.space, weights)


def synthetic_space(seed: int, blocks: int = 2, limits: tuple[str, ...] = ()) -> Space:
    """Random tables of the true structure: each part has one or two cuts, a sparsity and a drop, or none of them."""
    rng = np.random.default_rng(seed)
    units, parts = [], [Part("embedding", (50,), ((50,),), (50,), (0,))]
    for block in range(blocks):
        levels = tuple(sorted({8, *rng.integers(1, 8, 3).tolist()}, reverse=True))
        cut = Unit(f"b{block}.mlp", "ffn_width", block, 8, levels)
        other = Unit(f"b{block}.experts", "experts", block, 4, (4, 3, 1))
        drop = Unit(f"b{block}.mlp", "drop_ffn", block, 1, (1, 0))
        units += [cut, other, drop]
        for linear in range(2):
            size = int(rng.integers(4, 20))
            weights = tuple(sorted({8 * size, *rng.integers(1, 8 * size, 2).tolist()}, reverse=True))
            sparsity = Unit(f"b{block}.l{linear}", "sparsity", block, 8 * size, weights)
            units.append(sparsity)
            cuts = (cut, other) if linear else (cut,)
            params = tuple(size * math.prod(kept) for kept in itertools.product(*(c.levels for c in cuts)))
            nonzeros = tuple(tuple(p * w // (8 * size) for p in params) for w in weights)
            none = tuple(0 for _ in params)
            names = tuple(c.name for c in cuts)
            part = Part(f"b{block}.l{linear}", params, nonzeros, params, none, names, sparsity.name, drop.name, True)
            parts.append(part)
    return Space(tuple(units), tuple(parts), 2, tuple(Limit.parse(t) for t in limits))


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file of a run and give it the checksum of what it holds now."""
    data = read_json(path)
    change(data)
    write_json(path, data, indent=1)


def as_if_running(path: Path) -> None:
    """Let a finished run pass for one that has not ended yet, whose files of lines may still be short."""
    rewritten(path / "run.json", lambda info: info.pop("lines"))
