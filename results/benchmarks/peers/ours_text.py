"""Ours on the language model: FFN widths and KV groups, one search a limit, and uniform widths.

python ours_text.py --model llama-7m --text DIR --runs RUNS_DIR --work DIR --out measured/ours-text.json

DIR of the texts holds calib.txt, train.txt (selection) and valid.txt (measures). Limits are shares of the linears of
the blocks, given as parameters altogether. `--pruner taylor` leaves the values of what stays, as Torch-Pruning does.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from measures import WINDOW, Text, write
from transformers import AutoModelForCausalLM

import sparsesearch as ss
from sparsesearch.space.sampling import uniform_at_limits

FFN = {"kind": "ffn_width", "levels": 16, "min_kept": "6.25%"}
UNITS = {"all": [FFN, {"kind": "kv_groups"}], "ffn": [FFN]}


def recipe(args: argparse.Namespace, limits: list[str]) -> dict[str, Any]:
    data = {
        role: {"source": str(args.text / name), "length": WINDOW, "sequences": getattr(args, role)}
        for role, name in (("calibration", "calib.txt"), ("selection", "train.txt"))
    }
    return {
        "model": {"id": str(args.model)},
        "units": UNITS[args.units],
        "pruners": {"width": args.pruner},
        "limits": limits,
        "objectives": ["kl", "params"],
        "data": {"calibration": data["calibration"] | {"take": "first"}, "selection": data["selection"]},
        "search": {"searcher": args.searcher, "seed": args.seed, "tokens": args.tokens, "final": 2},
        "executor": {"kind": "local"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "text", "runs", "work", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--units", choices=["all", "ffn"], default="all")
    parser.add_argument("--pruner", default="obs")
    parser.add_argument("--searcher", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=60_000)
    parser.add_argument("--calibration", type=int, default=256, help="windows of 256 tokens")
    parser.add_argument("--selection", type=int, default=128, help="windows of 256 tokens")
    parser.add_argument("--percents", type=int, nargs="+", default=[75, 60, 50], help="limits, of the blocks' linears")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dense = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    prunable = sum(m.weight.numel() for m in dense.model.layers.modules() if isinstance(m, torch.nn.Linear))
    measured, rows, tokens = Text(args.model, args.text / "valid.txt", args.work, dense), [], []
    for percent in args.percents:
        limit = dense.num_parameters() - prunable + prunable * percent // 100
        name = f"llama-{args.units}-{args.searcher}-{args.pruner}-{percent}-{args.seed}"
        run = ss.search(recipe(args, [f"params<={limit}"]), name=name, results=args.runs, quiet=True)
        tokens.append(run.results.tokens)
        supernet, space = run.reopened.supernet, run.results.space
        uniform = uniform_at_limits(space, {unit.kind for unit in space.units})
        assert uniform is not None
        for way, genome in (("search", min(run.results.front, key=lambda e: e.quality).genome), ("uniform", uniform)):
            model = supernet.materialise(genome)
            params = sum(p.numel() for p in model.parameters())
            row: dict[str, Any] = {"prunable<=": percent, "units": args.units, "pruner": args.pruner, "way": way}
            row |= {"params": params, "prunable": params - dense.num_parameters() + prunable}
            rows.append(row | measured(model))
            print(rows[-1], flush=True)
    more = {"searcher": args.searcher, "seed": args.seed, "tokens read": tokens}
    write(args.out, rows, ["transformers"], dense={"params": dense.num_parameters()}, **more)


if __name__ == "__main__":
    main()
