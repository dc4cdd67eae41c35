"""DeciLM, the architecture of NVIDIA's Nemotron-NAS checkpoints: a Llama whose layers differ as in `block_configs`.

vLLM runs such a checkpoint with its own code and uses only the configuration class of this file; transformers uses
both classes. Needs only torch, transformers and `surgery.py`: an export ships the two files.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM

from sparsesearch.models.surgery import Surgery, apply_surgery

# FFN widths are rounded up to multiples of this.
WIDTH_MULTIPLE = 256


def intermediate_size(ffn_mult: float, hidden: int) -> int:
    """Return the FFN width of a multiplier."""
    return -(-int(2 * ffn_mult * hidden / 3) // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


class DeciLMConfig(LlamaConfig):  # type: ignore[misc]
    """A Llama configuration with an entry of `block_configs` for each layer.

    An entry is `{attention: {no_op, replace_with_linear, n_heads_in_group}, ffn: {no_op, replace_with_linear,
    ffn_mult}}`; in memory these are objects with attributes, as vLLM reads them.
    """

    model_type = "nemotron-nas"

    def __init__(self, block_configs: list[Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.block_configs = [_as_object(block) for block in block_configs or []]

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration for JSON, with rotary embeddings also under the names that transformers 4 reads."""
        data: dict[str, Any] = super().to_dict()
        data["block_configs"] = [{key: vars(part) for key, part in vars(block).items()} for block in self.block_configs]
        rotary = dict(self.rope_parameters or {})
        data["rope_theta"] = rotary.pop("rope_theta", 10_000.0)
        data["rope_scaling"] = rotary if rotary.get("rope_type", "default") != "default" else None
        return data


def _as_object(block: Any) -> SimpleNamespace:
    parts = block if isinstance(block, dict) else {key: vars(part) for key, part in vars(block).items()}
    return SimpleNamespace(**{key: SimpleNamespace(**part) for key, part in parts.items()})


class DeciLMForCausalLM(LlamaForCausalLM):  # type: ignore[misc]
    """A stock Llama whose layers are changed according to their block configurations."""

    config_class = DeciLMConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        apply_surgery(self, surgery_of(config))
        self.post_init()


def surgery_of(config: Any) -> Surgery:
    """Return the surgery that turns a Llama of the global sizes into the one of the block configurations."""
    shapes: dict[str, list[int]] = {}
    attributes: list[list[Any]] = []
    stand_ins: list[list[str]] = []
    hidden, size = config.hidden_size, config.head_dim
    for index, block in enumerate(config.block_configs):
        layer = f"model.layers.{index}"
        if block.attention.no_op:
            stand_ins += [[f"{layer}.input_layernorm", "identity"], [f"{layer}.self_attn", "attention"]]
        else:
            queries = block.attention.n_heads_in_group
            rows = config.num_attention_heads // queries * size
            for name in ("k_proj", "v_proj"):
                shapes[f"{layer}.self_attn.{name}.weight"] = [rows, hidden]
                if config.attention_bias:
                    shapes[f"{layer}.self_attn.{name}.bias"] = [rows]
            attributes.append([f"{layer}.self_attn", "num_key_value_groups", queries])
        if block.ffn.no_op:
            stand_ins += [[f"{layer}.post_attention_layernorm", "identity"], [f"{layer}.mlp", "ffn"]]
        else:
            width = intermediate_size(block.ffn.ffn_mult, hidden)
            for name in ("gate_proj", "up_proj"):
                shapes[f"{layer}.mlp.{name}.weight"] = [width, hidden]
                if config.mlp_bias:
                    shapes[f"{layer}.mlp.{name}.bias"] = [width]
            shapes[f"{layer}.mlp.down_proj.weight"] = [hidden, width]
    return {"shapes": shapes, "attributes": attributes, "stand_ins": stand_ins}
