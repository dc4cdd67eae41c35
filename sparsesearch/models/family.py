"""Family maps: which modules of an architecture make a unit, and which tensors move together when it is cut.

A map describes stock modules by name and shape and never rewrites modeling code. `FAMILIES` maps a `model_type` to the
function that describes it; to add a family, write such a function in a file of `families/` and add its line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PretrainedConfig
from transformers.pytorch_utils import Conv1D

from sparsesearch.errors import InputError
from sparsesearch.models.families import gpt2, gpt_neox, llama, moe, opt, phi3
from sparsesearch.models.network import Network
from sparsesearch.models.parts import Parts


@dataclass(frozen=True)
class Family:
    """How a `model_type` is described.

    Attributes:
        describe: writes the parts of a model.
        blocks: dotted path of the list of blocks.
        uniform: for each unit kind, the configuration fields that say its size for all layers at once.
    """

    describe: Callable[[Any, Parts], None]
    blocks: str
    uniform: dict[str, tuple[str, ...]]


_GROUPED = {"kv_groups": ("num_key_value_heads", "num_attention_heads"), "ffn_width": ("intermediate_size",)}

_LLAMA = Family(llama.describe, "model.layers", _GROUPED)
_GEMMA = Family(llama.describe_gemma, "model.layers", _GROUPED)
_MOE = Family(
    moe.describe, "model.layers", _GROUPED | {"expert_width": ("moe_intermediate_size",), "experts": ("num_experts",)}
)
_DEEPSEEK = Family(
    moe.describe_deepseek,
    "model.layers",
    _GROUPED | {"expert_width": ("moe_intermediate_size",), "experts": ("n_routed_experts",)},
)

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "granite": _LLAMA,
    "smollm3": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "olmo2": Family(llama.describe_olmo2, "model.layers", _GROUPED),
    "phi3": Family(phi3.describe, "model.layers", _GROUPED),
    "gpt2": Family(gpt2.describe, "transformer.h", {"ffn_width": ("n_inner",)}),
    "opt": Family(opt.describe, "model.decoder.layers", {"ffn_width": ("ffn_dim",)}),
    "gpt_neox": Family(gpt_neox.describe, "gpt_neox.layers", {"ffn_width": ("intermediate_size",)}),
    "mixtral": Family(
        moe.describe,
        "model.layers",
        _GROUPED | {"ffn_width": (), "expert_width": ("intermediate_size",), "experts": ("num_local_experts",)},
    ),
    "qwen2_moe": _MOE,
    "qwen3_moe": _MOE,
    "olmoe": Family(
        moe.describe, "model.layers", _GROUPED | {"expert_width": ("intermediate_size",), "experts": ("num_experts",)}
    ),
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
}


def family_of(config: PretrainedConfig) -> Family:
    """The family of a configuration; raises InputError SS202 where its `model_type` has none."""
    if config.model_type not in FAMILIES:
        raise InputError(
            "SS202",
            f"no family map for model_type {config.model_type!r}. Supported: {', '.join(FAMILIES)}.",
            "A new family is one function: see sparsesearch/models/family.py.",
        )
    return FAMILIES[config.model_type]


def check_family(config: PretrainedConfig) -> None:
    """Raise InputError SS202 for a `model_type` without a family map, SS203 for quantised weights."""
    family_of(config)
    if getattr(config, "quantization_config", None):
        quantization = config.quantization_config
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization.quant_method
        raise InputError(
            "SS203",
            f"weights are quantised ({method}); pruning needs floating-point weights.",
            "Load the original checkpoint.",
        )


def describe(model: Any) -> Network:
    """The parts of a causal language model of a known family; weights may be on the meta device."""
    config = model.config
    check_family(config)
    family, parts = FAMILIES[config.model_type], Parts(model)
    family.describe(model, parts)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return Network(
        model_type=config.model_type,
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        max_length=config.max_position_embeddings,
        blocks=tuple(f"{family.blocks}.{i}" for i in range(config.num_hidden_layers)),
        blockwise=True,
        matrices=parts.matrices,
        cuts=parts.cuts,
        drops=parts.drops,
        attentions=tuple(parts.attentions),
        shapes=shapes,
        applied=_applied(model, parts),
        limits=tuple(parts.limits),
    )


def _applied(model: Any, parts: Parts) -> dict[str, int]:
    """How often a token meets each weight that is no unit's matrix: the head once, wherever it is tied."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    linears = [m for m in model.modules() if isinstance(m, (nn.Linear, Conv1D))]
    routers = [m.gate for m in model.modules() if hasattr(m, "experts") and hasattr(m, "gate")]
    found = {names[id(module.weight)]: 1 for module in (*linears, *routers)}
    return {name: times for name, times in found.items() if name not in parts.matrices}
