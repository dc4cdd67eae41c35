"""Family maps: which modules of an architecture make a unit, and which tensors are cut together.

A map describes stock modules by name and shape and never rewrites modeling code. `FAMILIES` maps a `model_type` to the
function that describes it; to add a family, write such a function in a file of `families/` and add its line here, or
register it with `family`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModel, PretrainedConfig

from sparsesearch.errors import problem
from sparsesearch.models.builder import NetworkBuilder
from sparsesearch.models.families import (
    bert,
    convnext,
    distilbert,
    gpt2,
    gpt_neox,
    llama,
    moe,
    opt,
    phi3,
    swin,
    t5,
    vit,
)
from sparsesearch.models.network import Network
from sparsesearch.models.task import Task, task_of
from sparsesearch.models.tracing.layers import count_positions, weighted_layers
from sparsesearch.plugins import plugin
from sparsesearch.registry import Registry

# Image side if a configuration names none, and tokens of a window if the model sets no limit.
DRY_RUN_IMAGE, UNBOUNDED_LENGTH = 224, 1_000_000


@dataclass(frozen=True)
class Family:
    """How a `model_type` is described.

    Attributes:
        describe: writes the parts of a model.
        blocks: dotted paths of the lists of blocks, separated by spaces, inside the base model; where there are none
            the map names its blocks itself.
        blockwise: whether each block's output is the next one's input.
        width_fields: for each unit kind, the configuration fields that say its size for all layers at once.
    """

    describe: Callable[[Any, NetworkBuilder], None]
    blocks: str
    width_fields: dict[str, tuple[str, ...]]
    blockwise: bool = True


_GROUPED = {
    "kv_groups": ("num_key_value_heads", "num_attention_heads"),
    "q_heads": ("num_attention_heads",),
    "ffn_width": ("intermediate_size",),
}

_LLAMA = Family(llama.describe, "layers", _GROUPED)
_GEMMA = Family(llama.describe_gemma, "layers", _GROUPED)
_MOE = Family(
    moe.describe, "layers", _GROUPED | {"expert_width": ("moe_intermediate_size",), "experts": ("num_experts",)}
)
_DEEPSEEK = Family(
    moe.describe_deepseek,
    "layers",
    _GROUPED | {"expert_width": ("moe_intermediate_size",), "experts": ("n_routed_experts",)},
)

FAMILIES: Registry[Family] = Registry(
    "family",
    {
        "llama": _LLAMA,
        "mistral": _LLAMA,
        "qwen2": _LLAMA,
        "qwen3": _LLAMA,
        "granite": _LLAMA,
        "smollm3": _LLAMA,
        "gemma2": _GEMMA,
        "gemma3_text": _GEMMA,
        "olmo2": Family(llama.describe_olmo2, "layers", _GROUPED),
        "phi3": Family(phi3.describe, "layers", _GROUPED),
        "gpt2": Family(gpt2.describe, "h", {"ffn_width": ("n_inner",)}),
        "opt": Family(opt.describe, "decoder.layers", {"ffn_width": ("ffn_dim",)}),
        "gpt_neox": Family(gpt_neox.describe, "layers", {"ffn_width": ("intermediate_size",)}),
        "mixtral": Family(
            moe.describe,
            "layers",
            _GROUPED | {"ffn_width": (), "expert_width": ("intermediate_size",), "experts": ("num_local_experts",)},
        ),
        "qwen2_moe": _MOE,
        "qwen3_moe": _MOE,
        "olmoe": Family(
            moe.describe, "layers", _GROUPED | {"expert_width": ("intermediate_size",), "experts": ("num_experts",)}
        ),
        "deepseek_v2": _DEEPSEEK,
        "deepseek_v3": _DEEPSEEK,
        "bert": Family(bert.describe, "encoder.layer", {"ffn_width": ("intermediate_size",)}),
        "roberta": Family(bert.describe, "encoder.layer", {"ffn_width": ("intermediate_size",)}),
        "distilbert": Family(distilbert.describe, "transformer.layer", {"ffn_width": ("hidden_dim",)}),
        "deberta-v2": Family(
            bert.describe_deberta, "encoder.layer", {"ffn_width": ("intermediate_size",)}, blockwise=False
        ),
        "t5": Family(t5.describe, "encoder.block decoder.block", {"ffn_width": ("d_ff",)}, blockwise=False),
        "vit": Family(vit.describe, "layers", {"ffn_width": ("intermediate_size",)}),
        "deit": Family(vit.describe, "layers", {"ffn_width": ("intermediate_size",)}),
        "swin": Family(swin.describe, "", {}, blockwise=False),
        "convnext": Family(convnext.describe, "", {}, blockwise=False),
    },
    listed="families",
)


def family(
    model_type: str, blocks: str, width_fields: dict[str, tuple[str, ...]] | None = None, blockwise: bool = True
) -> Callable[[Callable[[Any, NetworkBuilder], None]], Callable[[Any, NetworkBuilder], None]]:
    """Register the map of a family of your own; arguments as the attributes of `Family`."""
    return FAMILIES.register(model_type, lambda describe: Family(describe, blocks, width_fields or {}, blockwise))


# Convolutional networks whose channel groups come from tracing.
TRACED = ("resnet",)


def family_of(config: PretrainedConfig) -> Family:
    """Return the family of a configuration; raises InputError SS202 if its `model_type` has none."""
    if config.model_type not in FAMILIES:
        supported = ", ".join((*FAMILIES, *TRACED))
        raise problem(
            "SS202",
            f"no family map for model_type {config.model_type!r}{_mask_hint(config)}. Supported: {supported}.",
            fix="A new family is one function: see sparsesearch/models/README.md.",
        )
    return FAMILIES[config.model_type]


def _mask_hint(config: PretrainedConfig) -> str:
    """Return the part of the error text that says what a model without a family map could still be pruned by."""
    try:
        with torch.device("meta"):
            model = AutoModel.from_config(config)
    except Exception:  # transformers cannot build it either
        return ""
    return (
        f": its {len(weighted_layers(model))} linear and convolution layers could only be pruned by masks (as a module "
        "of your own, see sparsesearch/models/README.md), its widths, heads and experts not at all"
    )


def check_family(config: PretrainedConfig) -> None:
    """Raise InputError SS202 for a `model_type` without a family map, SS203 for quantised weights."""
    if config.model_type not in TRACED:
        family_of(config)
    if getattr(config, "quantization_config", None):
        quantization = config.quantization_config
        method = quantization.get("quant_method") if isinstance(quantization, dict) else quantization.quant_method
        raise problem(
            "SS203",
            f"weights are quantised ({method}); pruning needs floating-point weights.",
            fix="Load the original checkpoint.",
        )


def describe(model: Any) -> Network:
    """Describe a network of a known family; weights may be on the meta device."""
    config = model.config
    check_family(config)
    family, task = FAMILIES[config.model_type], task_of(config)
    counts, positions, values = _dry_run(model, task) if task.data == "image" else ({}, 1, _values(config, task))
    builder = NetworkBuilder(model, counts)
    with plugin(f"family {config.model_type!r}"):
        family.describe(model, builder)
    blocks = [f"{builder.root}{pattern}" for pattern in family.blocks.split()]
    paths = [f"{path}.{i}" for path in blocks for i in range(len(model.get_submodule(path)))] if family.blocks else []
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    return Network(
        model_type=config.model_type,
        task=task,
        hidden=values if task.embeds else getattr(config, "hidden_size", 0),
        values=values,
        positions=positions,
        max_length=positions_of(config),
        blocks=tuple(builder.blocks or paths),
        blockwise=family.blockwise,
        matrices=builder.matrices,
        cuts=builder.cuts,
        drops=builder.drops,
        attentions=tuple(builder.attentions),
        shapes=shapes,
        applied=_count_applications(model, builder, counts, task),
        unsearchable=tuple(builder.unsearchable),
        distribution=_is_distribution(config, task, values),
    )


def positions_of(config: Any) -> int:
    """Return the longest window, in tokens, that a model takes."""
    positions = getattr(config, "max_position_embeddings", None) or UNBOUNDED_LENGTH
    # RoBERTa counts positions from the one after the padding token's.
    return int(positions - config.pad_token_id - 1 if config.model_type == "roberta" else positions)


def _is_distribution(config: Any, task: Task, values: int) -> bool:
    """Return whether the values of a position are logits of one distribution."""
    independent_values = getattr(config, "problem_type", None) in ("regression", "multi_label_classification")
    return values > 1 and not task.embeds and not independent_values


def _values(config: Any, task: Task) -> int:
    """Return how many numbers a model of token sequences puts out per position."""
    if task.name == "embedding":
        return int(config.hidden_size)
    return int(config.num_labels if task.pooled else config.vocab_size)


def _dry_run(model: Any, task: Task) -> tuple[dict[str, int], int, int]:
    """Return how often each linear and convolution is applied to one image, and the positions and values put out."""
    size, device = getattr(model.config, "image_size", DRY_RUN_IMAGE), next(model.parameters()).device
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    image = torch.zeros((1, model.config.num_channels, height, width), device=device)
    with torch.no_grad(), count_positions(model) as counts:
        outputs = task.call(model, {"pixel_values": image})
    return counts, int(outputs.shape[1]), int(outputs.shape[2])


def _count_applications(model: Any, builder: NetworkBuilder, counts: dict[str, int], task: Task) -> dict[str, int]:
    """Return how often each weight that is no unit's matrix is applied to one token, or one image.

    The head is applied once to a token, even if its weight is tied; poolers and classifiers are applied once to a whole
    text and do not count in the cost of a token.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    once = task.pooled or task.name == "embedding"
    if not counts:
        counts = {path: 0 if once else 1 for path, _ in weighted_layers(model)}
    applied = {names[id(model.get_submodule(path).weight)]: count for path, count in counts.items()}
    applied |= {names[id(m.gate.weight)]: 1 for m in model.modules() if hasattr(m, "experts") and hasattr(m, "gate")}
    return {name: count for name, count in applied.items() if name not in builder.matrices}
