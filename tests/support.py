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
from PIL import Image

from sparsesearch.bilevel.relaxed import Relaxed
from sparsesearch.calibration import calibration_pass
from sparsesearch.config import RunConfig
from sparsesearch.engine import controller
from sparsesearch.engine.launch.prepare import Launch, prepare
from sparsesearch.files import read_json, write_json
from sparsesearch.models import dense_config, describe, load_model, load_tokenizer, meta_model
from sparsesearch.models.load import DEMO
from sparsesearch.models.network import Network
from sparsesearch.models.space_builder import modules_of
from sparsesearch.models.task import task_of
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.space import Limit, Part, Space, Unit
from sparsesearch.supernet import LevelStore, StitchedSupernet, StoreBuilder
from sparsesearch.supernet.compose import select
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


ALL_KINDS: list[dict[str, Any]] = [
    {"kind": "sparsity", "levels": ["40%", "75%"]},
    {"kind": "ffn_width", "levels": [0.75, 0.5, 0.25]},
    {"kind": "kv_groups"},
    {"kind": "drop_attention"},
    {"kind": "drop_ffn"},
    {"kind": "experts"},
    {"kind": "expert_width", "levels": 2, "min_kept": "50%"},
    {"kind": "kernel"},
]


def kinds_of(model: Path | str, heads: bool = True) -> list[dict[str, Any]]:
    """Families of units of every kind that a model has; query heads in one block, unless `heads` is false."""
    config = dense_config(Path(model))
    network = describe(meta_model(config))
    kinds = [family for family in ALL_KINDS if modules_of(family["kind"], network)]
    if heads and modules_of("q_heads", network):  # one attention loses KV groups or query heads, never both
        kinds = [k | {"target": "*.[!1].*"} if k["kind"] == "kv_groups" else k for k in kinds]
        kinds.append({"kind": "q_heads", "target": "*.1.*"})
    return kinds


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


def image_folder(path: Path, count: int = 8, seed: int = 0) -> Path:
    """Random images of two classes in `path`, made on first use."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        file = path / f"class{index % 2}" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(file)
    return path


def image_data(model: Path) -> dict[str, Any]:
    """Calibration and selection images for a tiny vision model."""
    image = {"size": 16, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    return {
        role: {"source": str(image_folder(model / role)), "sequences": 6, "image": image, "take": "first"}
        for role in ("calibration", "selection")
    } | {"allow_shared": True}


def defaults_of(model: Path | str) -> dict[str, Any]:
    """The parts of a recipe that depend on what a model is for."""
    if model == "demo" or not (Path(model) / "config.json").exists():
        return {}
    task = task_of(dense_config(Path(model)))
    changes: dict[str, Any] = {"objectives": [task.qualities[0], "nonzeros"]}
    return changes | ({"data": image_data(Path(model))} if task.data == "image" else {})


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
    return tree | defaults_of(model) | changes


def launched(model: Path | str, /, **changes: Any) -> Launch:
    return prepare(RunConfig.model_validate(recipe(model, **changes)))


def run_search(path: Path, model: Path | str, /, **changes: Any) -> RunResults:
    """A finished run in `path`."""
    return controller.start(launched(model, **changes), path, Reporter(quiet=True))


class Built:
    """A family's tiny model with a level store of all unit kinds."""

    def __init__(self, directory: Path, work: Path, **changes: Any) -> None:
        self.launch: Launch = launched(directory, **{"units": kinds_of(directory), **changes})
        self.directory, network = directory, self.launch.network
        model = load_model(directory, torch.float32)
        builder = StoreBuilder(
            model, network, self.launch.space, self.launch.config.pruners, work, work / "statistics", torch.float32
        )
        blocks = calibration_pass(model, network, self.launch.samples["calibration"], work / "statistics", 4)
        for block in range(len(network.blocks)):
            blocks.collect(block)
            blocks.advance(block)
            builder.build(block)
        blocks.close()
        builder.finish(self.launch.store_key)
        self.store = LevelStore.open(work, self.launch.store_key)
        self.space: Space = self.launch.space.with_nonzeros(self.store.nonzeros)

    @property
    def once(self) -> int:
        """Weights that act once on a text: poolers and classifiers."""
        network = self.launch.network
        return sum(
            math.prod(network.shapes[n])
            for n, times in network.applied.items()
            if not times and len(network.shapes[n]) > 1
        )

    def supernet(self, execution: Any) -> StitchedSupernet:
        model = load_model(self.directory, torch.float32)
        compensate = self.launch.config.pruners.compensate
        return StitchedSupernet(
            model, self.launch.network, self.space, self.store.files, execution, compensate=compensate
        )


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


def relaxed_of(built: Built, moves: Any = "frozen") -> Relaxed:
    """The family's dense network with all its units open to any degree."""
    model = built.supernet("sliced").materialise(built.space.dense)
    weights = Weights(model, built.launch.network, moves, built.launch.config.training)
    return Relaxed(built.launch.network, built.space, weights)


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
