"""The form that vLLM runs with a width for each layer: DeciLM block configurations, as NVIDIA's Nemotron-NAS has them.

vLLM's `nemotron_nas.py` supports, according to its source: one number of query heads for all layers, and in each layer
any number of KV heads that divides it; FFN widths in multiples of 256; layers without attention or FFN (`no_op`),
except that the first layer needs its attention.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sparsesearch.export.forms import modeling_decilm
from sparsesearch.export.forms.form import CannotTakeForm, Maker
from sparsesearch.export.forms.modeling_decilm import WIDTH_MULTIPLE, DeciLMConfig, DeciLMForCausalLM
from sparsesearch.export.forms.stock import ADDED_BIASES, kept_blocks, renumber_blocks
from sparsesearch.models import surgery
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.supernet.stitched import load_exactly

MODULE, SURGERY = "modeling_decilm", "modeling_sparsesearch"


def plan(supernet: StitchedSupernet, genome: Genome) -> Maker:
    """Return the maker of the candidate as DeciLM; raises CannotTakeForm if it cannot be a DeciLM."""
    stock: Any = getattr(supernet.model, "config", None)
    if getattr(stock, "model_type", "") != "llama" or not supernet.network.task.generates:
        raise CannotTakeForm("nemotron_nas is for causal language models of model_type llama")
    if stock.hidden_act != "silu":
        raise CannotTakeForm(f"nemotron_nas needs activation silu, this model has {stock.hidden_act}")
    if supernet.gains_biases(genome):
        raise CannotTakeForm(ADDED_BIASES)
    layers = [_layer(supernet, genome, block) for block in kept_blocks(supernet, genome)]
    _check(layers)
    heads = layers[0]["groups"] * layers[0]["queries"]
    config = _configuration(stock, layers, heads)

    def make() -> Any:
        model = DeciLMForCausalLM._from_config(config, dtype=torch.float32)
        state = renumber_blocks(supernet.state_dict(genome), supernet.network, [layer["block"] for layer in layers])
        load_exactly(model, state)
        return model

    return make


def _layer(supernet: StitchedSupernet, genome: Genome, block: int) -> dict[str, Any]:
    """Return the sizes of a block: KV `groups`, `queries` in each, `width`; 0 groups or width for dropped sublayers."""
    kept, network = supernet.kept(genome), supernet.network
    sizes = {cut.kind: kept[cut.name] for cut in network.cuts.values() if cut.block == block}
    for drop in network.drops.values():
        if drop.block == block and supernet.composer.is_dropped(genome, drop.name):
            sizes["kv_groups" if drop.kind == "attention" else "ffn_width"] = 0
    queries = next(a.query_heads for a in network.attentions if a.path.startswith(f"{network.blocks[block]}."))
    return {
        "block": block,
        "groups": sizes["kv_groups"],
        "queries": sizes.get("q_heads", queries),
        "width": sizes["ffn_width"],
    }


def _check(layers: list[dict[str, Any]]) -> None:
    """Raise CannotTakeForm for layers that block configurations cannot express."""
    if not layers:
        raise CannotTakeForm("no layer of this candidate is left")
    if not layers[0]["groups"]:
        raise CannotTakeForm(
            f"block {layers[0]['block']} comes first and has no attention, which vLLM's DeciLM cannot run"
        )
    heads = {layer["groups"] * layer["queries"] for layer in layers if layer["groups"]}
    if len(heads) > 1:
        counts = ", ".join(map(str, sorted(heads)))
        raise CannotTakeForm(
            f"attentions of this candidate keep {counts} query heads, but nemotron_nas has one number for all layers"
        )
    for layer in layers:
        if layer["width"] % WIDTH_MULTIPLE:
            raise CannotTakeForm(
                f"block {layer['block']} has an FFN width of {layer['width']}, but nemotron_nas needs multiples of "
                f"{WIDTH_MULTIPLE} (set align: nemotron_nas in the recipe)"
            )


def _configuration(stock: Any, layers: list[dict[str, Any]], heads: int) -> DeciLMConfig:
    data = stock.to_dict() | {
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "num_key_value_heads": layers[0]["groups"],
        "head_dim": stock.head_dim,
        "intermediate_size": max(layer["width"] for layer in layers) or WIDTH_MULTIPLE,
        "block_configs": [_block(layer, stock.hidden_size) for layer in layers],
        "auto_map": {
            "AutoConfig": f"{MODULE}.DeciLMConfig",
            "AutoModelForCausalLM": f"{MODULE}.DeciLMForCausalLM",
        },
    }
    for key in ("model_type", "architectures", "transformers_version"):
        data.pop(key, None)
    return DeciLMConfig(**data)


def _block(layer: dict[str, Any], hidden: int) -> dict[str, Any]:
    """Return an entry of `block_configs`; sizes of dropped sublayers are null, as llama.cpp's converter expects."""
    groups, width = layer["groups"], layer["width"]
    return {
        "attention": {
            "no_op": not groups,
            "replace_with_linear": False,
            "n_heads_in_group": layer["queries"] if groups else None,
        },
        "ffn": {
            "no_op": not width,
            "replace_with_linear": False,
            "ffn_mult": 1.5 * width / hidden if width else None,
        },
    }


def code(_: StitchedSupernet) -> dict[str, str]:
    """Return the contents of the files that `trust_remote_code` runs, by name."""
    text = Path(modeling_decilm.__file__).read_text()
    return {
        f"{MODULE}.py": text.replace("from sparsesearch.models.surgery import", f"from .{SURGERY} import"),
        f"{SURGERY}.py": Path(surgery.__file__).read_text(),
    }
