"""Family maps: which modules of an architecture make a unit, and which tensors move together when it is cut.

A map describes stock modules by name and shape and never rewrites modeling code. `FAMILIES` maps a `model_type` to the
function that describes it; to add a family, write such a function in a file of its own and add its line here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PretrainedConfig

from sparsesearch.errors import InputError
from sparsesearch.models import llama
from sparsesearch.models.architecture import Architecture, Sublayer

FAMILIES: dict[str, Callable[[Any], list[Sublayer]]] = {
    "llama": llama.sublayers,
    "mistral": llama.sublayers,
    "qwen2": llama.sublayers,
    "qwen3": llama.sublayers,
}


def check_family(config: PretrainedConfig) -> None:
    """Raise InputError SS202 for a `model_type` without a family map, SS203 for quantised weights."""
    if config.model_type not in FAMILIES:
        raise InputError(
            "SS202",
            f"no family map for model_type {config.model_type!r}. Supported: {', '.join(FAMILIES)}.",
            "A new family is one function: see sparsesearch/models/family.py.",
        )
    if getattr(config, "quantization_config", None):
        quantization = config.quantization_config
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization.quant_method
        raise InputError(
            "SS203",
            f"weights are quantised ({method}); pruning needs floating-point weights.",
            "Load the original checkpoint.",
        )


def describe(model: Any) -> Architecture:
    """The architecture of a causal language model of a known family; weights may be on the meta device."""
    config = model.config
    check_family(config)
    sublayers = FAMILIES[config.model_type](model)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    tied = config.tie_word_embeddings
    return Architecture(
        model_type=config.model_type,
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        max_length=config.max_position_embeddings,
        blocks=tuple(f"model.layers.{i}" for i in range(config.num_hidden_layers)),
        sublayers=tuple(sublayers),
        sizes=sizes,
        head="model.embed_tokens.weight" if tied else "lm_head.weight",
    )
