"""Torch-Pruning on the language model, with the settings of its own LLM example, at shares of the prunable parameters.

python torch_pruning_text.py --model llama-7m --text DIR --work DIR --out measured/torch-pruning-text.json

DIR of the texts holds calib.txt (gradients) and valid.txt (yardstick). `hidden` cuts the hidden size, FFN widths and
heads in one ratio, as the example does; `ffn` FFN widths alone; `ffn, heads` also one query head of every KV group. The
ratio is bisected to the limit. Prunable are the linears of the blocks; the hidden size also shrinks the embedding, so
that `hidden` is held to the same number of parameters altogether.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp
from torch import nn
from transformers import AutoModelForCausalLM
from yardstick import WINDOW, Text, write

from sparsesearch.export.measure import text_windows
from sparsesearch.models import load_tokenizer

IMPORTANCES = {
    "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2, group_reduction="mean"),
    "taylor": tp.importance.GroupTaylorImportance,
    "lamp": lambda: tp.importance.LAMPImportance(p=2),
}
# What is cut, and whether all layers are ranked together.
WAYS = {
    "ffn": ("ffn", False),
    "ffn, global": ("ffn", True),
    "hidden": ("hidden", False),
    "ffn, heads": ("heads", False),
}
SEQUENCES = 256


def load(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def gradients(model: Any, windows: Any) -> dict[str, torch.Tensor]:
    for rows in torch.from_numpy(windows).long().split(8):
        logits = model(rows).logits[:, :-1]
        nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum").backward()
    return {name: p.grad for name, p in model.named_parameters()}


def cut(path: Path, found: dict[str, torch.Tensor], importance: str, way: str, ratio: float) -> Any:
    """A model cut by a ratio, and repaired as the example does."""
    model, (what, together) = load(path), WAYS[way]
    if what == "hidden":  # the example's checkpoints are untied; Torch-Pruning would cut a shared matrix once
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    for name, p in model.named_parameters():
        p.grad = found["model.embed_tokens.weight" if name == "lm_head.weight" else name].clone()
    heads, config = {}, model.config
    whole: list[nn.Module] = [model.lm_head]
    for block in model.model.layers:
        attention, mlp = block.self_attn, block.mlp
        heads[attention.q_proj] = config.num_attention_heads
        heads[attention.k_proj] = heads[attention.v_proj] = config.num_key_value_heads
        if what != "hidden":
            whole += [attention.o_proj, mlp.down_proj]
        if what == "ffn":
            whole += [attention.q_proj, attention.k_proj, attention.v_proj]
    if what != "hidden":
        whole.append(model.model.embed_tokens)
    head_ratio = {"hidden": ratio, "heads": 0.5, "ffn": 0.0}[what]
    pruner = tp.pruner.BasePruner(
        model, torch.zeros(1, 8, dtype=torch.long), IMPORTANCES[importance](), global_pruning=together,
        output_transform=lambda out: out.logits, pruning_ratio=ratio, ignored_layers=whole, num_heads=heads,
        prune_num_heads=what != "ffn", prune_head_dims=False, head_pruning_ratio=head_ratio,
    )  # fmt: skip
    for group in pruner.step(interactive=True):
        group.prune()
    for block in model.model.layers:
        attention = block.self_attn
        attention.num_key_value_groups = attention.q_proj.out_features // attention.k_proj.out_features
    return model


def sizes(model: Any) -> tuple[int, int]:
    """Parameters altogether, with the tied matrix once, and those of the linears of the blocks."""
    prunable = sum(m.weight.numel() for m in model.model.layers.modules() if isinstance(m, nn.Linear))
    others = sum(p.numel() for name, p in model.named_parameters() if "norm" in name or "embed_tokens" in name)
    return prunable + others, prunable


def at_limit(limit: int, *given: Any) -> Any:
    """The largest model within a number of parameters; None where the smallest ratio tried is beyond it."""
    low, high, best = 0.0, 1.0, None
    for _ in range(10):
        ratio = (low + high) / 2
        model = cut(*given, ratio)
        if sizes(model)[0] > limit:
            low = ratio
        else:
            high, best = ratio, model
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dense = load(args.model)
    (whole, prunable), rows = sizes(dense), []
    measured = Text(args.model, args.text / "valid.txt", args.work, dense)
    more = {"dense": {"params": whole, "prunable": prunable} | measured(dense)}
    found = gradients(dense, text_windows(load_tokenizer(args.model), args.text / "calib.txt", WINDOW)[:SEQUENCES])
    for percent, importance, way in itertools.product((75, 60, 50), IMPORTANCES, WAYS):
        row: dict[str, Any] = {"prunable<=": percent, "importance": importance, "way": way}
        try:
            model = at_limit(whole - prunable + prunable * percent // 100, args.model, found, importance, way)
            row |= dict(zip(("params", "prunable"), sizes(model), strict=True)) | measured(model)
        except Exception as error:  # what Torch-Pruning or the cut model says
            row |= {"fails": f"{type(error).__name__}: {error}"[:160]}
        rows.append(row)
        print(row, flush=True)
    write(args.out, rows, ["torch-pruning", "transformers"], calibration=SEQUENCES * WINDOW, **more)


if __name__ == "__main__":
    main()
