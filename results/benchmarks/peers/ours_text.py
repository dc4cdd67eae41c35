"""Ours on the language model: FFN widths and KV groups, one search without limits, and uniform widths.

python ours_text.py --model llama-7m --text DIR --runs RUNS_DIR --work DIR --out measured/ours-text.json

DIR of the texts holds calib.txt, train.txt (selection) and valid.txt (yardstick). Limits are shares of the linears of
the blocks, given as parameters altogether. `--pruner taylor` leaves the values of what stays, as Torch-Pruning does.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from yardstick import WINDOW, Text, write

import sparsesearch as ss
from sparsesearch.export.write import open_run
from sparsesearch.space import Limit
from sparsesearch.space.sampling import uniform_at_limits

FFN = {"kind": "ffn_width", "levels": 16, "min_kept": "6.25%"}
UNITS = {"all": [FFN, {"kind": "kv_groups"}], "ffn": [FFN]}


def recipe(args: argparse.Namespace) -> dict[str, Any]:
    data = {"length": WINDOW, "sequences": 256}
    return {
        "model": {"id": str(args.model)},
        "units": UNITS[args.units],
        "pruners": {"width": args.pruner},
        "objectives": ["kl", "params"],
        "data": {
            "calibration": data | {"source": str(args.text / "calib.txt"), "take": "first"},
            "selection": data | {"source": str(args.text / "train.txt")},
        },
        "search": {"searcher": args.searcher, "seed": args.seed, "tokens": args.tokens},
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
    parser.add_argument("--tokens", type=int, default=150_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    name = f"llama-{args.units}-{args.searcher}-{args.pruner}-{args.seed}"
    if (args.runs / name / "front.json").exists():
        run = ss.Run.open(args.runs / name)
    else:
        run = ss.search(recipe(args), name=name, results=args.runs, quiet=True)
    supernet, space = open_run(run.results).supernet, run.results.space
    dense, rows = supernet.apply(space.dense), []
    whole = space.dense_costs["params"]
    prunable = sum(m.weight.numel() for m in dense.model.layers.modules() if isinstance(m, torch.nn.Linear))
    measured = Text(args.model, args.text / "valid.txt", args.work, dense)
    for percent in (75, 60, 50):
        limit = whole - prunable + prunable * percent // 100
        limited = space.with_limits([Limit.parse(f"params<={limit}")])
        within = [e for e in run.results.front if limited.feasible(e.genome)]
        uniform = uniform_at_limits(limited, {unit.kind for unit in space.units})
        assert uniform is not None
        for way, genome in (("search", min(within, key=lambda e: e.quality).genome), ("uniform", uniform)):
            model = supernet.materialise(genome)
            params = sum(p.numel() for p in model.parameters())
            row: dict[str, Any] = {"prunable<=": percent, "units": args.units, "pruner": args.pruner, "way": way}
            rows.append(row | {"params": params, "prunable": params - whole + prunable} | measured(model))
            print(rows[-1], flush=True)
    more = {"searcher": args.searcher, "seed": args.seed, "tokens read": run.results.tokens}
    write(args.out, rows, ["transformers"], **more)


if __name__ == "__main__":
    main()
