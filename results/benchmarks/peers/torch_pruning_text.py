"""Torch-Pruning on the FFN widths of the language model, at shares of the prunable parameters.

python torch_pruning_text.py --model llama-7m --text DIR --work DIR --out measured/torch-pruning-text.json

DIR of the texts holds calib.txt (gradients) and valid.txt (measures). The ratio is bisected to the limit, in each
layer alone or all ranked together. Prunable are the linears of the blocks. Heads are left whole: see README.md.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp
from measures import WINDOW, Text, write
from torch import nn
from transformers import AutoModelForCausalLM

from sparsesearch.export.measuring.quality import text_windows
from sparsesearch.models import load_tokenizer

IMPORTANCES: dict[str, Callable[[], Any]] = {
    "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
    "taylor": tp.importance.GroupTaylorImportance,
    "lamp": lambda: tp.importance.LAMPImportance(p=2),
}
WAYS = {"uniform": False, "global": True}


def load(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def gradients(model: Any, windows: Any) -> dict[str, torch.Tensor]:
    for rows in torch.from_numpy(windows).long().split(8):
        logits = model(rows).logits[:, :-1]
        nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum").backward()
    return {name: p.grad for name, p in model.named_parameters()}


def cut(path: Path, grads: dict[str, torch.Tensor], importance: str, way: str, ratio: float) -> Any:
    """A model whose FFN widths are cut by a ratio."""
    model = load(path)
    for name, p in model.named_parameters():
        p.grad = grads[name].clone()
    whole = [model.lm_head, model.model.embed_tokens]
    for block in model.model.layers:
        whole += [*block.self_attn.modules(), block.mlp.down_proj]
    tp.pruner.BasePruner(
        model,
        torch.zeros(1, 8, dtype=torch.long),
        IMPORTANCES[importance](),
        global_pruning=WAYS[way],
        output_transform=lambda out: out.logits,
        pruning_ratio=ratio,
        ignored_layers=whole,
    ).step()
    return model


def sizes(model: Any) -> tuple[int, int]:
    """Parameters altogether, and those of the linears of the blocks."""
    prunable = sum(m.weight.numel() for m in model.model.layers.modules() if isinstance(m, nn.Linear))
    return sum(p.numel() for p in model.parameters()), prunable


def at_limit(limit: int, *arguments: Any) -> Any:
    """The largest model within a number of parameters."""
    low, high, best = 0.0, 1.0, None
    for _ in range(10):
        ratio = (low + high) / 2
        model = cut(*arguments, ratio)
        if sizes(model)[0] > limit:
            low = ratio
        else:
            high, best = ratio, model
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "text", "work", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--percents", type=int, nargs="+", default=[75, 60, 50], help="limits, of the blocks' linears")
    parser.add_argument("--importances", nargs="+", choices=list(IMPORTANCES), default=list(IMPORTANCES))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--sequences", type=int, default=256, help="windows of calib.txt for gradients, at most")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dense = load(args.model)
    (whole, prunable), rows = sizes(dense), []
    measured = Text(args.model, args.text / "valid.txt", args.work, dense)
    more = {"dense": {"params": whole, "prunable": prunable} | measured(dense)}
    windows = text_windows(load_tokenizer(args.model), args.text / "calib.txt", WINDOW)[: args.sequences]
    grads = gradients(dense, windows)
    for percent, importance, way in itertools.product(args.percents, args.importances, args.ways):
        model = at_limit(whole - prunable + prunable * percent // 100, args.model, grads, importance, way)
        row: dict[str, Any] = {"prunable<=": percent, "importance": importance, "way": way}
        rows.append(row | dict(zip(("params", "prunable"), sizes(model), strict=True)) | measured(model))
        print(rows[-1], flush=True)
    write(args.out, rows, ["torch-pruning", "transformers"], calibration=windows.size, **more)


if __name__ == "__main__":
    main()
